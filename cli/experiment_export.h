// An experiment's report for other programs.
//
// Pure, any thread.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "vernier/v1/experiments.pb.h"

namespace vernier::cli {

// As ToJson, with null for what only the report's meaning tells to be not measured: quantiles of
// nothing, scores of shadows that were not scored, means of pairs, the size of a test whose metric
// is no rate.
nlohmann::ordered_json ReportJson(const v1::ExperimentReport& report);

// One figure a line, as RFC 4180 has it: section,arm,metric,figure,value. Sections and figures are
// the proto's names, numbers are the shortest that read back the same, a value that was not
// measured is empty.
std::string ReportCsv(const v1::ExperimentReport& report);

}  // namespace vernier::cli
