// Counters, gauges and histograms that threads update without a lock, and the table that a scrape
// reads.
//
// prometheus-cpp's own histogram takes a mutex in Observe, which the device thread must not.
#pragma once

#include <prometheus/metric_family.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/mutex.h"

namespace vernier {

class Counter {
 public:
  void Add(int64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_{0};
};

class Gauge {
 public:
  void Set(double value) { value_.store(value, std::memory_order_relaxed); }
  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

class Histogram {
 public:
  // `bounds`: ascending upper bounds; the last bucket, to infinity, is implied.
  explicit Histogram(const std::vector<double>& bounds);
  void Observe(double value);
  int64_t count() const;

 private:
  friend class MetricTable;
  const std::vector<double> bounds_;
  std::unique_ptr<std::atomic<int64_t>[]> buckets_;  // [bounds + 1], not cumulative
  std::atomic<double> sum_{0};
};

using Labels = std::vector<std::pair<std::string, std::string>>;

// Thread-safe; the instruments live as long as the table.
class MetricTable {
 public:
  MetricTable();
  ~MetricTable();
  // A series of the family `name`, which the first declaration makes.
  Counter* AddCounter(const std::string& name, const std::string& help, const Labels& labels);
  // A counter of a quantity with a fraction, set from outside.
  Gauge* AddFloatCounter(const std::string& name, const std::string& help, const Labels& labels);
  Gauge* AddGauge(const std::string& name, const std::string& help, const Labels& labels);
  Histogram* AddHistogram(const std::string& name, const std::string& help,
                          const std::vector<double>& bounds, const Labels& labels);
  std::vector<prometheus::MetricFamily> Collect() const;

 private:
  struct Family;
  struct Series;
  Series* AddSeries(const std::string& name, const std::string& help, int type,
                    const Labels& labels) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;  // of the lists, not of the instruments
  std::deque<Family> families_ ABSL_GUARDED_BY(mutex_);
};

// Prometheus text format 0.0.4.
std::string RenderPrometheus(const std::vector<prometheus::MetricFamily>& families);
// OpenMetrics 1.0 text, with its `# EOF`.
std::string RenderOpenMetrics(const std::vector<prometheus::MetricFamily>& families);

}  // namespace vernier
