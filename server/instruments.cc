#include "server/instruments.h"

#include <prometheus/text_serializer.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "kernels/base/check.h"

namespace vernier {

Histogram::Histogram(const std::vector<double>& bounds)
    : bounds_(bounds), buckets_(std::make_unique<std::atomic<int64_t>[]>(bounds.size() + 1)) {}

void Histogram::Observe(double value) {
  const size_t bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  buckets_[bucket].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(value, std::memory_order_relaxed);
}

int64_t Histogram::count() const {
  int64_t total = 0;
  for (size_t i = 0; i <= bounds_.size(); ++i) {
    total += buckets_[i].load(std::memory_order_relaxed);
  }
  return total;
}

struct MetricTable::Series {
  Labels labels;
  std::unique_ptr<Counter> counter;
  std::unique_ptr<Gauge> gauge;
  std::unique_ptr<Histogram> histogram;
};

struct MetricTable::Family {
  std::string name;
  std::string help;
  prometheus::MetricType type;
  std::deque<Series> series;
};

MetricTable::MetricTable() = default;
MetricTable::~MetricTable() = default;

MetricTable::Series* MetricTable::AddSeries(const std::string& name, const std::string& help,
                                            int type, const Labels& labels) {
  auto family = std::find_if(families_.begin(), families_.end(),
                             [&](const Family& f) { return f.name == name; });
  if (family == families_.end()) {
    families_.push_back({name, help, static_cast<prometheus::MetricType>(type), {}});
    family = std::prev(families_.end());
  }
  VERNIER_CHECK(family->type == static_cast<prometheus::MetricType>(type));
  Series& series = family->series.emplace_back();
  series.labels = labels;
  return &series;
}

Counter* MetricTable::AddCounter(const std::string& name, const std::string& help,
                                 const Labels& labels) {
  MutexLock lock(&mutex_);
  Series* series = AddSeries(name, help, static_cast<int>(prometheus::MetricType::Counter), labels);
  series->counter = std::make_unique<Counter>();
  return series->counter.get();
}

Gauge* MetricTable::AddFloatCounter(const std::string& name, const std::string& help,
                                    const Labels& labels) {
  MutexLock lock(&mutex_);
  Series* series = AddSeries(name, help, static_cast<int>(prometheus::MetricType::Counter), labels);
  series->gauge = std::make_unique<Gauge>();
  return series->gauge.get();
}

Gauge* MetricTable::AddGauge(const std::string& name, const std::string& help,
                             const Labels& labels) {
  MutexLock lock(&mutex_);
  Series* series = AddSeries(name, help, static_cast<int>(prometheus::MetricType::Gauge), labels);
  series->gauge = std::make_unique<Gauge>();
  return series->gauge.get();
}

Histogram* MetricTable::AddHistogram(const std::string& name, const std::string& help,
                                     const std::vector<double>& bounds, const Labels& labels) {
  MutexLock lock(&mutex_);
  Series* series =
      AddSeries(name, help, static_cast<int>(prometheus::MetricType::Histogram), labels);
  series->histogram = std::make_unique<Histogram>(bounds);
  return series->histogram.get();
}

std::vector<prometheus::MetricFamily> MetricTable::Collect() const {
  std::vector<prometheus::MetricFamily> out;
  MutexLock lock(&mutex_);
  for (const Family& family : families_) {
    prometheus::MetricFamily& to = out.emplace_back();
    to.name = family.name;
    to.help = family.help;
    to.type = family.type;
    for (const Series& series : family.series) {
      prometheus::ClientMetric& metric = to.metric.emplace_back();
      for (const auto& [name, value] : series.labels) metric.label.push_back({name, value});
      if (series.counter) metric.counter.value = static_cast<double>(series.counter->value());
      if (series.gauge) metric.gauge.value = metric.counter.value = series.gauge->value();
      if (!series.histogram) continue;
      const Histogram& histogram = *series.histogram;
      uint64_t cumulative = 0;
      for (size_t i = 0; i <= histogram.bounds_.size(); ++i) {
        cumulative += histogram.buckets_[i].load(std::memory_order_relaxed);
        metric.histogram.bucket.push_back(
            {cumulative, i < histogram.bounds_.size() ? histogram.bounds_[i] : INFINITY});
      }
      metric.histogram.sample_count = cumulative;
      metric.histogram.sample_sum = histogram.sum_.load(std::memory_order_relaxed);
    }
  }
  return out;
}

std::string RenderPrometheus(const std::vector<prometheus::MetricFamily>& families) {
  return prometheus::TextSerializer().Serialize(families);
}

namespace {

std::string Number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return absl::StrFormat("%.17g", value);
}

// {a="b",le="1"}; backslash, quote and newline escaped.
std::string LabelText(const std::vector<prometheus::ClientMetric::Label>& labels,
                      const std::string& le) {
  std::string out;
  const auto add = [&](absl::string_view name, absl::string_view value) {
    absl::StrAppend(&out, out.empty() ? "{" : ",", name, "=\"");
    for (const char c : value) {
      if (c == '\\' || c == '"') out += '\\';
      if (c == '\n') {
        out += "\\n";
      } else {
        out += c;
      }
    }
    out += '"';
  };
  for (const auto& label : labels) add(label.name, label.value);
  if (!le.empty()) add("le", le);
  if (!out.empty()) out += '}';
  return out;
}

// A bound as OpenMetrics wants it: always a float.
std::string Bound(double value) {
  if (std::isinf(value)) return "+Inf";
  const std::string text = absl::StrFormat("%.6g", value);
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

}  // namespace

std::string RenderOpenMetrics(const std::vector<prometheus::MetricFamily>& families) {
  std::string out;
  for (const prometheus::MetricFamily& family : families) {
    absl::string_view name = family.name;
    const char* type = "gauge";
    if (family.type == prometheus::MetricType::Counter) {
      type = "counter";
      name = absl::StripSuffix(name, "_total");
    } else if (family.type == prometheus::MetricType::Histogram) {
      type = "histogram";
    } else if (absl::EndsWith(name, "_info")) {
      type = "info";
      name = absl::StripSuffix(name, "_info");
    }
    absl::StrAppend(&out, "# HELP ", name, " ", family.help, "\n# TYPE ", name, " ", type, "\n");
    for (const prometheus::ClientMetric& metric : family.metric) {
      const std::string labels = LabelText(metric.label, "");
      if (family.type == prometheus::MetricType::Counter) {
        absl::StrAppend(&out, name, "_total", labels, " ", Number(metric.counter.value), "\n");
      } else if (family.type == prometheus::MetricType::Histogram) {
        for (const auto& bucket : metric.histogram.bucket) {
          absl::StrAppend(&out, name, "_bucket", LabelText(metric.label, Bound(bucket.upper_bound)),
                          " ", bucket.cumulative_count, "\n");
        }
        absl::StrAppend(&out, name, "_count", labels, " ", metric.histogram.sample_count, "\n",
                        name, "_sum", labels, " ", Number(metric.histogram.sample_sum), "\n");
      } else {
        absl::StrAppend(&out, family.name, labels, " ", Number(metric.gauge.value), "\n");
      }
    }
  }
  return out + "# EOF\n";
}

}  // namespace vernier
