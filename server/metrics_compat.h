// Metrics under the names of another server, for its dashboards, autoscalers and routers.
#pragma once

#include <prometheus/metric_family.h>

#include <string>
#include <vector>

namespace vernier {

// Appends vLLM's names for what the whole process does, each one series with the labels model_name
// and engine="0": requests waiting and running, use and shape of the KV cache, and the histograms
// of time to first token, inter-token latency and request duration, summed over the variants.
// `families` as Metrics::Collect gives them. Names: vllm/v1/metrics/loggers.py.
void AppendVllmAliases(const std::string& model_name,
                       std::vector<prometheus::MetricFamily>* families);

}  // namespace vernier
