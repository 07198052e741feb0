// The protocol's form of a report.
#pragma once

#include "server/experiments/report.h"
#include "vernier/v1/experiments.pb.h"

namespace vernier {

// All but `experiment` and `log_dropped`, which the report does not know.
v1::ExperimentReport ReportMessage(const ExperimentReport& report);

}  // namespace vernier
