// What an experiment has shown so far, from its exposures alone.
//
// A report is a function of the records and the plan: read again from the log, in any order of its
// segments' writers, it is the same to the bit, since values are summed by unit and units in the
// order of their hashes. Counts are by the arm that a unit was assigned to, whatever served it
// (intent to treat). A result behind a failed gate is there and marked invalid.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "server/experiments/assignment.h"
#include "server/experiments/exposure_record.h"
#include "server/experiments/quantile_sketch.h"
#include "server/experiments/statistics.h"

namespace vernier {

// What is compared between arms, a value a finished request.
enum class ReportMetric : uint8_t {
  kOutputTokens,
  kErrors,       // 1: the request ended with a gRPC status other than OK
  kMeanLogprob,  // of its answer, under what served it
  kScoreKl,      // where it was scored under the reference
  kScoreTop1
};
inline constexpr int kNumReportMetrics = 5;
const char* ReportMetricName(ReportMetric metric);

enum class Gate : uint8_t { kSampleRatio, kOneArmAUnit, kServedAsAssigned };
inline constexpr int kNumGates = 3;

struct GateResult {
  Gate gate = Gate::kSampleRatio;
  bool passed = true;
  std::string reason;  // a sentence with the figure and the limit
};

struct ArmSummary {
  std::string name, variant;
  int64_t bound = 0;  // requests that were given this arm
  int64_t done = 0;   // of them, that ended
  int64_t errors = 0;
  int64_t units = 0;                                    // that ended at least one request
  QuantileSketch queue, first_token, token_p50, total;  // microseconds
  // By units: each counts once, with the mean of its requests.
  std::array<Moments, kNumReportMetrics> metrics;
};

// Treatment less control.
struct ArmComparison {
  int arm = 0;
  ReportMetric metric = ReportMetric::kOutputTokens;
  Difference difference;
  Bounds bounds;  // a confidence sequence: valid at this look too
  double p = 1;   // likewise
};

struct ExperimentReport {
  std::string experiment;
  std::vector<ArmSummary> arms;
  std::vector<GateResult> gates;  // in the order in which they are asked
  bool valid = true;              // every gate passed
  std::vector<ArmComparison> comparisons;
  int64_t shadow = 0, forced = 0;  // requests of other kinds, left out
};

class ReportBuilder {
 public:
  // Records of other experiments are passed over. `control` is an index of plan.arms.
  ReportBuilder(const ExperimentPlan& plan, uint32_t experiment_number, int control);

  void Add(const ExposureRecord& record);
  ExperimentReport Build(const SequenceOptions& options) const;

 private:
  struct ArmData {
    ArmSummary summary;
    // Kept until Build, which sorts them: a sum must not depend on what came first.
    std::array<std::map<uint64_t, std::vector<double>>, kNumReportMetrics> values_by_unit;
  };

  std::vector<GateResult> CheckGates() const;

  const ExperimentPlan plan_;
  const uint32_t experiment_number_;
  const int control_;
  std::vector<ArmData> arms_;
  std::map<uint64_t, std::set<uint8_t>> arms_of_unit_;
  int64_t served_as_assigned_ = 0, bound_ = 0;
  int64_t shadow_ = 0, forced_ = 0;
};

// For a terminal: the arms, the gates, the differences; what is invalid is said to be so.
std::string RenderReport(const ExperimentReport& report, int control);

}  // namespace vernier
