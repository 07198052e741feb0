#include "server/instruments.h"

#include <algorithm>
#include <charconv>
#include <cmath>

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

namespace {

enum class Format { kPrometheus, kOpenMetrics };

void AppendNumber(double value, std::string* out) {
  if (std::isnan(value)) return absl::StrAppend(out, "NaN");
  if (std::isinf(value)) return absl::StrAppend(out, value > 0 ? "+Inf" : "-Inf");
  char text[32];  // the shortest that reads back as the same number has at most 24 characters
  out->append(text, std::to_chars(text, text + sizeof(text), value).ptr);
}

// a="b",c="d"; backslash, quote and newline escaped.
std::string LabelText(const std::vector<prometheus::ClientMetric::Label>& labels) {
  std::string out;
  for (const auto& label : labels) {
    absl::StrAppend(&out, out.empty() ? "" : ",", label.name, "=\"");
    for (const char c : label.value) {
      if (c == '\\' || c == '"') out += '\\';
      if (c == '\n') {
        out += "\\n";
      } else {
        out += c;
      }
    }
    out += '"';
  }
  return out;
}

// OpenMetrics wants bounds that are always floats.
std::string Bound(double value, Format format) {
  if (std::isinf(value)) return "+Inf";
  std::string text = absl::StrFormat("%.6g", value);
  if (format == Format::kOpenMetrics && text.find_first_of(".e") == std::string::npos) {
    text += ".0";
  }
  return text;
}

// `name` and its labels, up to the value; `suffix` is a part of the name.
void AppendSeries(absl::string_view name, absl::string_view suffix, absl::string_view labels,
                  std::string* out) {
  if (labels.empty()) {
    absl::StrAppend(out, name, suffix, " ");
  } else {
    absl::StrAppend(out, name, suffix, "{", labels, "} ");
  }
}

// `bounds` as text, of each bucket.
void AppendHistogram(const std::string& name, const std::string& labels,
                     const prometheus::ClientMetric::Histogram& histogram,
                     const std::vector<std::string>& bounds, std::string* out) {
  const absl::string_view comma = labels.empty() ? "" : ",";
  for (size_t i = 0; i < histogram.bucket.size(); ++i) {
    absl::StrAppend(out, name, "_bucket{", labels, comma, "le=\"");
    absl::StrAppend(out, bounds[i], "\"} ", histogram.bucket[i].cumulative_count, "\n");
  }
  AppendSeries(name, "_count", labels, out);
  absl::StrAppend(out, histogram.sample_count, "\n");
  AppendSeries(name, "_sum", labels, out);
  AppendNumber(histogram.sample_sum, out);
  out->push_back('\n');
}

// What OpenMetrics names differently: a counter without its suffix, and info as a type.
void AppendHead(const prometheus::MetricFamily& family, Format format, std::string* out) {
  absl::string_view name = family.name;
  const char* type = "gauge";
  if (family.type == prometheus::MetricType::Counter) type = "counter";
  if (family.type == prometheus::MetricType::Histogram) type = "histogram";
  if (format == Format::kOpenMetrics) {
    if (family.type == prometheus::MetricType::Counter) name = absl::StripSuffix(name, "_total");
    if (family.type == prometheus::MetricType::Gauge && absl::EndsWith(name, "_info")) {
      type = "info";
      name = absl::StripSuffix(name, "_info");
    }
  }
  absl::StrAppend(out, "# HELP ", name, " ", family.help, "\n# TYPE ");
  absl::StrAppend(out, name, " ", type, "\n");
}

// prometheus-cpp's serializer writes each label through a stream: a page took a third more time
// with it.
std::string Render(const std::vector<prometheus::MetricFamily>& families, Format format) {
  std::string out;
  out.reserve(size_t{512} << 10);
  for (const prometheus::MetricFamily& family : families) {
    AppendHead(family, format, &out);
    std::vector<std::string> bounds;  // of all series of the family: they have the same
    for (const prometheus::ClientMetric& metric : family.metric) {
      const std::string labels = LabelText(metric.label);
      if (family.type == prometheus::MetricType::Histogram) {
        while (bounds.size() < metric.histogram.bucket.size()) {
          bounds.push_back(Bound(metric.histogram.bucket[bounds.size()].upper_bound, format));
        }
        AppendHistogram(family.name, labels, metric.histogram, bounds, &out);
        continue;
      }
      AppendSeries(family.name, "", labels, &out);
      AppendNumber(family.type == prometheus::MetricType::Counter ? metric.counter.value
                                                                  : metric.gauge.value,
                   &out);
      out += '\n';
    }
  }
  return out;
}

}  // namespace

std::string RenderPrometheus(const std::vector<prometheus::MetricFamily>& families) {
  return Render(families, Format::kPrometheus);
}

std::string RenderOpenMetrics(const std::vector<prometheus::MetricFamily>& families) {
  return Render(families, Format::kOpenMetrics) + "# EOF\n";
}

}  // namespace vernier
