#include "server/metrics_compat.h"

#include <algorithm>
#include <cstddef>

namespace vernier {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;

struct Alias {
  const char* ours;
  const char* theirs;
};
constexpr Alias kAliases[] = {
    {"vernier_pod_requests_waiting", "vllm:num_requests_waiting"},
    {"vernier_pod_requests_running", "vllm:num_requests_running"},
    {"vernier_pod_kv_cache_usage_ratio", "vllm:kv_cache_usage_perc"},
    {"vernier_cache_config_info", "vllm:cache_config_info"},
    {"vernier_time_to_first_token_seconds", "vllm:time_to_first_token_seconds"},
    {"vernier_inter_token_latency_seconds", "vllm:inter_token_latency_seconds"},
    {"vernier_request_duration_seconds", "vllm:e2e_request_latency_seconds"},
};

// Adds the histogram `from` to `sum`; the series of a family have the same bounds.
void AddHistogram(const ClientMetric::Histogram& from, ClientMetric::Histogram* sum) {
  sum->sample_count += from.sample_count;
  sum->sample_sum += from.sample_sum;
  if (sum->bucket.empty()) {
    sum->bucket = from.bucket;
    return;
  }
  for (size_t i = 0; i < std::min(sum->bucket.size(), from.bucket.size()); ++i) {
    sum->bucket[i].cumulative_count += from.bucket[i].cumulative_count;
  }
}

// All series of `from` as one.
ClientMetric Sum(const MetricFamily& from, const std::string& model_name) {
  ClientMetric sum;
  sum.label = {{"model_name", model_name}, {"engine", "0"}};
  if (from.name == "vernier_cache_config_info") {  // its labels are what it says
    const auto& own = from.metric.front().label;
    sum.label.insert(sum.label.end(), own.begin(), own.end());
  }
  for (const ClientMetric& metric : from.metric) {
    sum.gauge.value += metric.gauge.value;
    AddHistogram(metric.histogram, &sum.histogram);
  }
  return sum;
}

}  // namespace

void AppendVllmAliases(const std::string& model_name,
                       std::vector<prometheus::MetricFamily>* families) {
  const size_t ours = families->size();
  for (const Alias& alias : kAliases) {
    for (size_t i = 0; i < ours; ++i) {
      const MetricFamily& from = (*families)[i];
      if (from.name != alias.ours || from.metric.empty()) continue;
      MetricFamily copy{alias.theirs, from.help, from.type, {Sum(from, model_name)}};
      families->push_back(std::move(copy));
      break;
    }
  }
}

}  // namespace vernier
