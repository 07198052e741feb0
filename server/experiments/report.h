// What an experiment has shown so far, from its exposures and what was thought of its answers.
//
// A report is a function of what was added and not of the order: sums are exact integers, so the
// report that grew while the server ran and the one that is read again from the log are equal to
// the bit. Memory is bounded by the options, not by requests. Counts are by the arm that a unit was
// assigned to, whatever served it (intent to treat). A result behind a failed gate is there and
// marked invalid.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/experiments/assignment.h"
#include "server/experiments/exposure_record.h"
#include "server/experiments/feedback_join.h"
#include "server/experiments/quantile_sketch.h"
#include "server/experiments/statistics.h"
#include "server/experiments/unit_table.h"

namespace vernier {

// What is compared between arms, a value a request. Metrics of feedback follow, in the order in
// which they are declared: their index is kNumReportMetrics + i.
enum class ReportMetric : uint8_t {
  kOutputTokens,
  kErrors,       // 1: failed by us (RequestEnd::kFailed), else 0
  kMeanLogprob,  // of its answer, under what served it
  kScoreKl,      // where it was scored under the reference
  kScoreTop1
};
inline constexpr int kNumReportMetrics = 5;

// A metric that feedback may speak of.
struct FeedbackMetric {
  enum class Kind : uint8_t { kBool, kFloat, kText, kPreference };
  std::string name;
  Kind kind = Kind::kBool;
  bool smaller_is_better = false;
  double low = 0, high = 1;  // of kFloat; what is beyond counts as the bound
};

inline bool IsCompared(FeedbackMetric::Kind kind) {
  return kind == FeedbackMetric::Kind::kBool || kind == FeedbackMetric::Kind::kFloat;
}

// The metric's index by its name; -1: none that can be compared (a text, a preference, unknown).
int FindMetric(absl::string_view name, std::span<const FeedbackMetric> feedback);

// When a treatment is good enough.
struct DecisionRule {
  int metric = 0;     // as FindMetric gives it
  double margin = 0;  // > 0, in the metric's unit: what the treatment may lose
  // Of shadows alone: the same requests under both variants. Fixed before there are any results,
  // since one of two tests may not be chosen by what they say. A metric of feedback has no pairs.
  bool by_pairs = false;
};

struct ReportOptions {
  SequenceOptions sequence;
  std::optional<DecisionRule> decision;
  std::vector<FeedbackMetric> feedback;
  // Each request is a unit of its own; no table of units is kept.
  bool unit_is_request = false;
  size_t max_units = size_t{1} << 18;      // beyond: a sample of them by their hashes
  size_t max_exposures = size_t{1} << 20;  // of which feedback may speak; the oldest are forgotten
  size_t max_feedback = size_t{1} << 18;   // values; more are left out and counted
};

enum class Gate : uint8_t {
  kSampleRatio,
  kOneArmAUnit,
  kServedAsAssigned,
  kFirstToken,  // these two hold a ramp and make no result invalid
  kLength
};
inline constexpr int kNumGates = 5;
const char* GateName(Gate gate);  // "sample_ratio", "one_arm_a_unit", ...

struct GateResult {
  Gate gate = Gate::kSampleRatio;
  bool passed = true;
  std::string reason;  // a sentence with the figure and the limit
  double figure = 0;  // what was judged, of the three that make a result invalid
};

struct ArmSummary {
  std::string name, variant;
  int64_t bound = 0;   // requests that were given this arm
  int64_t done = 0;    // of them, that ended
  int64_t errors = 0;  // failed by us
  int64_t broken = 0;  // empty or looping answers
  int64_t units = 0;   // that are compared; of the sample, where there is one
  QuantileSketch queue, first_token, token_p50, total;  // microseconds
};

// Treatment less control.
struct ArmComparison {
  int arm = 0;
  int metric = 0;
  bool paired = false;
  Moments control, treatment;  // by units. Paired: empty, and the differences
  Difference difference;
  Bounds bounds;  // a confidence sequence: valid at this look too
  double p = 1;   // likewise
};

// Which of two answers was liked more, by readers who saw both.
struct ArmPreference {
  int arm = 0;
  int metric = 0;
  int64_t wins = 0, losses = 0, ties = 0;  // of the treatment against the control
  double p = 1;                            // of no preference, valid at this look too
  Bounds win_rate;                         // ties left out; likewise
};

struct ShadowSummary {
  int arm = 0;
  int64_t mirrored = 0, dropped = 0, failed = 0, broken = 0, scored = 0;
  Moments kl;  // by units; a request without one by itself
  double top1_mean = 0;
  Moments length_ratio;        // by requests: the shadow's tokens to those of the answer
  Bounds kl_bounds;            // a confidence sequence
  QuantileSketch same_tokens;  // one more than the tokens that both answers begin with
  int64_t equal = 0;           // of the scored
};

enum class PromptStratum : uint8_t { kShort, kMedium, kLong };  // to 256, to 2048 tokens, beyond
inline constexpr int kNumStrata = 3;
PromptStratum StratumOf(uint32_t prompt_tokens);
const char* StratumName(PromptStratum stratum);

struct Verdict {
  int arm = 0;
  NonInferiority verdict = NonInferiority::kUndecided;
  std::string reason;  // a sentence: the bound and the margin, or what blocks
  double needed = 0;   // values an arm (pairs) for a test of fixed size of a rate; else 0
};

struct ExperimentReport {
  std::string experiment;
  int control = 0;
  std::vector<std::string> metrics;  // names, by index
  std::vector<ArmSummary> arms;
  std::vector<GateResult> gates;  // in the order in which they are asked
  bool valid = true;              // every gate passed
  std::vector<ArmComparison> comparisons;
  std::vector<ArmPreference> preferences;
  std::vector<ShadowSummary> shadows;
  std::vector<Verdict> verdicts;
  double unit_share = 1;     // of the units that are compared: 1, or a power of 1/2
  int64_t forced = 0;        // requests that named their variant, left out
  int64_t without_unit = 0;  // left out of what is compared by units
  int64_t feedback = 0;      // values, by their exposure, metric and source
  int64_t feedback_orphans = 0;
  int64_t feedback_left_out = 0;    // beyond max_feedback
  int64_t exposures_forgotten = 0;  // beyond max_exposures: what is said of them later is orphaned
};

// Not thread-safe.
class ReportBuilder {
 public:
  // Records of other experiments are passed over. `control` is an index of plan.arms.
  ReportBuilder(const ExperimentPlan& plan, uint32_t experiment_number, int control,
                ReportOptions options);

  void Add(const ExposureRecord& record);
  // Before its exposure or after. One of a metric that is not declared is passed over.
  void AddFeedback(const FeedbackValue& value);
  ExperimentReport Build() const;
  // Whether Feedback of that exposure would find its request.
  bool Knows(const ExposureId& exposure) const { return join_.Knows(exposure); }

  // Parts of it: a treatment arm against the control by units, or by pairs with its shadows.
  ArmComparison Compare(int arm, int metric) const;
  ArmComparison ComparePairs(int arm, int metric) const;
  Verdict Decide(int arm) const;  // REQUIRES: a decision in the options

 private:
  // Columns of the table: every metric, every metric of the server's by pairs, the decision's
  // strata.
  int NumMetrics() const { return static_cast<int>(scales_.size()); }
  int PairColumn(int metric) const { return NumMetrics() + metric; }
  int StratumColumn(PromptStratum stratum) const {
    return NumMetrics() + kNumReportMetrics + static_cast<int>(stratum);
  }
  int NumColumns() const { return NumMetrics() + kNumReportMetrics + kNumStrata; }

  // A value into the moments of its arm and unit, or out of them again. NaN: there is none.
  enum class Direction : uint8_t { kIn, kOut };
  void Count(Direction direction, const Exposed& to, int metric, double value);
  void CountPair(const Exposed& to, ReportMetric metric, double difference);
  void Place(Direction direction, const Exposed& to, int column, int64_t steps);
  bool StandsAlone(const Exposed& to) const { return options_.unit_is_request || to.unit == 0; }
  void Apply(const FeedbackJoin::Change& change);
  void AddShadow(const ExposureRecord& record, const Exposed& to);
  void AddBound(const ExposureRecord& record, const Exposed& to);
  void AddDone(const ExposureRecord& record, const Exposed& to);

  Moments MomentsOf(int arm, int column, int metric) const;
  const char* NameOf(int metric) const;
  bool SmallerIsBetter(int metric) const;
  bool IsRate(int metric) const;
  std::vector<GateResult> CheckGates() const;
  std::vector<ArmPreference> Preferences() const;
  ShadowSummary Shadow(int arm) const;
  NonInferiority Judge(const Difference& difference) const;

  static constexpr double kMostLengthRatio = 1 << 16;  // more counts as that
  struct ShadowData {
    ShadowSummary summary;
    ExactMoments length_ratio;
  };

  const ExperimentPlan plan_;
  const uint32_t experiment_number_;
  const int control_;
  const ReportOptions options_;
  std::vector<FixedPoint> scales_;  // by metric
  std::vector<ArmSummary> arms_;
  std::vector<ShadowData> shadows_;  // by arm
  std::vector<int64_t> alone_;       // requests without a unit, by arm
  UnitTable table_;
  FeedbackJoin join_;
  int64_t served_as_assigned_ = 0, bound_ = 0;
  int64_t forced_ = 0;
};

}  // namespace vernier
