// The metrics of experiments, whose series come and go with them.
#pragma once

#include <prometheus/metric_family.h>

#include <vector>

#include "server/experiments/registry.h"

namespace vernier {

// Appends the families `vernier_exp_*`. `variants` are the names by index.
void AppendExperimentFamilies(const ExperimentsFigures& figures,
                              const std::vector<std::string>& variants,
                              std::vector<prometheus::MetricFamily>* families);

}  // namespace vernier
