#include "server/experiments/report.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "server/experiments/answer_checks.h"

namespace vernier {
namespace {

constexpr uint8_t kResourceExhausted = 8;  // of google.rpc.Code

// A metric of the server's own.
struct MetricRow {
  const char* name;
  double limit;  // of its size; what is beyond counts as it
};
constexpr MetricRow kMetrics[kNumReportMetrics] = {
    {"output_tokens", 1 << 24}, {"errors", 1},     {"mean_logprob", 128},
    {"score_kl", 64},           {"score_top1", 1},
};
constexpr const char* kGateNames[kNumGates] = {"sample_ratio", "one_arm_a_unit",
                                               "served_as_assigned", "first_token", "length"};
constexpr double kMostFeedback = 1e100;

std::vector<FixedPoint> ScalesOf(const ReportOptions& options) {
  std::vector<FixedPoint> scales;
  for (const MetricRow& row : kMetrics) scales.emplace_back(row.limit);
  for (const FeedbackMetric& metric : options.feedback) {
    const double size = std::max(std::fabs(metric.low), std::fabs(metric.high));
    const bool is_float = metric.kind == FeedbackMetric::Kind::kFloat;
    // Within what has a finite square, whatever was declared.
    scales.emplace_back(!is_float || !(size > 0) ? 1 : std::min(size, kMostFeedback));
  }
  return scales;
}

int ColumnsOf(const ReportOptions& options) {
  return 2 * kNumReportMetrics + static_cast<int>(options.feedback.size()) + kNumStrata;
}

int IndexOf(ReportMetric metric) { return static_cast<int>(metric); }

Exposed ExposedOf(const ExposureRecord& record) {
  return {.unit = record.unit_hash, .prompt_tokens = record.prompt_tokens, .arm = record.arm};
}

}  // namespace

const char* GateName(Gate gate) { return kGateNames[static_cast<int>(gate)]; }

int FindMetric(absl::string_view name, std::span<const FeedbackMetric> feedback) {
  for (int metric = 0; metric < kNumReportMetrics; ++metric) {
    if (name == kMetrics[metric].name) return metric;
  }
  for (size_t i = 0; i < feedback.size(); ++i) {
    if (name == feedback[i].name && IsCompared(feedback[i].kind)) {
      return kNumReportMetrics + static_cast<int>(i);
    }
  }
  return -1;
}

const char* ReportBuilder::NameOf(int metric) const {
  return metric < kNumReportMetrics ? kMetrics[metric].name
                                    : options_.feedback[metric - kNumReportMetrics].name.c_str();
}

ReportBuilder::ReportBuilder(const ExperimentPlan& plan, uint32_t experiment_number, int control,
                             ReportOptions options)
    : plan_(plan),
      experiment_number_(experiment_number),
      control_(control),
      options_(std::move(options)),
      scales_(ScalesOf(options_)),
      alone_(plan.arms.size()),
      table_(static_cast<int>(plan.arms.size()), ColumnsOf(options_), options_.max_units),
      join_(options_.feedback.empty() ? 0 : options_.max_exposures, options_.max_feedback) {
  VERNIER_CHECK(control >= 0 && static_cast<size_t>(control) < plan.arms.size());
  if (options_.decision) {
    const DecisionRule& rule = *options_.decision;
    VERNIER_CHECK(rule.metric >= 0 && rule.metric < NumMetrics() && rule.margin > 0);
    VERNIER_CHECK(!rule.by_pairs || rule.metric < kNumReportMetrics);
  }
  for (const Arm& arm : plan.arms) arms_.push_back({.name = arm.name, .variant = arm.variant});
  shadows_.resize(plan.arms.size());
}

void ReportBuilder::Add(const ExposureRecord& record) {
  if (record.experiment != experiment_number_) return;
  const bool bound = record.kind == ExposureKind::kBound;
  if (record.reason == ServedReason::kForced) {
    if (!bound) return;
    ++forced_;
    // What is said of it is no orphan, and counts for no arm.
    join_.AddExposure(record.request_id, {.arm = kNoArm});
    return;
  }
  if (record.arm >= arms_.size()) return;  // of a plan that had more
  const Exposed to = ExposedOf(record);
  if (record.reason == ServedReason::kShadow) {
    AddShadow(record, to);
  } else if (bound) {
    AddBound(record, to);
  } else if (record.kind == ExposureKind::kDone) {
    AddDone(record, to);
  } else if (record.kind == ExposureKind::kScored && record.score_tokens > 0) {
    Count(Direction::kIn, to, IndexOf(ReportMetric::kScoreKl), record.score_kl);
    Count(Direction::kIn, to, IndexOf(ReportMetric::kScoreTop1), record.score_top1);
  }
}

void ReportBuilder::AddBound(const ExposureRecord& record, const Exposed& to) {
  ++arms_[to.arm].bound;
  ++bound_;
  served_as_assigned_ += record.served == record.assigned ? 1 : 0;
  if (StandsAlone(to)) {
    ++alone_[to.arm];
  } else {
    table_.Bind(to.unit, to.arm);
  }
  for (const FeedbackJoin::Change& change : join_.AddExposure(record.request_id, to)) {
    Apply(change);
  }
}

void ReportBuilder::AddDone(const ExposureRecord& record, const Exposed& to) {
  ArmSummary& arm = arms_[to.arm];
  const bool failed = EndOf(record) == RequestEnd::kFailed;
  ++arm.done;
  arm.errors += failed ? 1 : 0;
  arm.broken += IsBroken(record) ? 1 : 0;
  arm.queue.Add(record.queue_micros);
  arm.total.Add(record.total_micros);
  // A request that ended before its first token has no time to it, nor between tokens.
  if (record.output_tokens > 0) arm.first_token.Add(record.first_token_micros);
  if (record.output_tokens > 1) arm.token_p50.Add(record.token_p50_micros);
  Count(Direction::kIn, to, IndexOf(ReportMetric::kOutputTokens), record.output_tokens);
  Count(Direction::kIn, to, IndexOf(ReportMetric::kErrors), failed ? 1 : 0);
  Count(Direction::kIn, to, IndexOf(ReportMetric::kMeanLogprob), record.mean_logprob);
}

void ReportBuilder::AddShadow(const ExposureRecord& record, const Exposed& to) {
  ShadowData& shadow = shadows_[to.arm];
  ShadowSummary& summary = shadow.summary;
  if (record.kind == ExposureKind::kBound) {
    ++summary.mirrored;
  } else if (record.kind == ExposureKind::kDone) {
    const RequestEnd end = EndOf(record);
    summary.dropped += record.grpc_status == kResourceExhausted ? 1 : 0;
    summary.failed += end == RequestEnd::kFailed ? 1 : 0;
    summary.broken += IsBroken(record) ? 1 : 0;
    if (end == RequestEnd::kSaysNothing) return;
    const int reference_failed = IsOurFailure(record.reference_status) ? 1 : 0;
    CountPair(to, ReportMetric::kErrors, (end == RequestEnd::kFailed ? 1 : 0) - reference_failed);
  } else if (record.kind == ExposureKind::kScored && record.score_tokens > 0) {
    ++summary.scored;
    summary.equal += record.equal != 0 ? 1 : 0;
    summary.same_tokens.Add(record.same_tokens + 1.0);  // a sketch begins at 1
    CountPair(to, ReportMetric::kOutputTokens,
              static_cast<double>(record.output_tokens) - record.reference_tokens);
    CountPair(to, ReportMetric::kMeanLogprob,
              static_cast<double>(record.mean_logprob) - record.reference_logprob);
    // Scored under itself, the control differs by nothing and agrees everywhere.
    CountPair(to, ReportMetric::kScoreKl, record.score_kl);
    CountPair(to, ReportMetric::kScoreTop1, record.score_top1 - 1.0);
    if (record.reference_tokens == 0) return;
    shadow.length_ratio.Add(FixedPoint(kMostLengthRatio)
                                .Of(static_cast<double>(record.output_tokens) /
                                    static_cast<double>(record.reference_tokens)));
  }
}

void ReportBuilder::Count(Direction direction, const Exposed& to, int metric, double value) {
  if (std::isnan(value)) return;
  // Without a unit it would count as much as a session: it is left out of what is compared by them.
  if (to.unit == 0 && !options_.unit_is_request) return;
  const int64_t steps = scales_[metric].Of(value);
  Place(direction, to, metric, steps);
  const auto& decision = options_.decision;
  if (decision && !decision->by_pairs && decision->metric == metric) {
    Place(direction, to, StratumColumn(StratumOf(to.prompt_tokens)), steps);
  }
}

void ReportBuilder::CountPair(const Exposed& to, ReportMetric metric, double difference) {
  if (std::isnan(difference)) return;
  const int64_t steps = scales_[IndexOf(metric)].Of(difference);
  Place(Direction::kIn, to, PairColumn(IndexOf(metric)), steps);
  const auto& decision = options_.decision;
  if (decision && decision->by_pairs && decision->metric == IndexOf(metric)) {
    Place(Direction::kIn, to, StratumColumn(StratumOf(to.prompt_tokens)), steps);
  }
}

void ReportBuilder::Place(Direction direction, const Exposed& to, int column, int64_t steps) {
  const bool in = direction == Direction::kIn;
  if (StandsAlone(to)) {
    in ? table_.AddAlone(to.arm, column, steps) : table_.RemoveAlone(to.arm, column, steps);
  } else {
    in ? table_.Add(to.unit, to.arm, column, steps) : table_.Remove(to.unit, to.arm, column, steps);
  }
}

void ReportBuilder::AddFeedback(const FeedbackValue& value) {
  const auto metrics = static_cast<int>(options_.feedback.size());
  if (value.metric < 0 || value.metric >= metrics || std::isnan(value.value)) return;
  if (const auto change = join_.AddValue(value)) Apply(*change);
}

void ReportBuilder::Apply(const FeedbackJoin::Change& change) {
  const FeedbackMetric& metric = options_.feedback[change.value.metric];
  if (!IsCompared(metric.kind) || change.exposed.arm >= arms_.size()) return;
  const auto bounded = [&](const FeedbackValue& value) {
    const bool is_float = metric.kind == FeedbackMetric::Kind::kFloat;
    return is_float ? std::min(std::max(value.value, metric.low), metric.high)
                    : (value.value != 0 ? 1.0 : 0.0);
  };
  const int index = kNumReportMetrics + change.value.metric;
  if (change.before) Count(Direction::kOut, change.exposed, index, bounded(*change.before));
  Count(Direction::kIn, change.exposed, index, bounded(change.value));
}

}  // namespace vernier
