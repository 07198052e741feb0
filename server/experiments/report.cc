#include "server/experiments/report.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/check.h"

namespace vernier {
namespace {

constexpr double kSampleRatioAlpha = 0.001;
constexpr double kLeastServedAsAssigned = 0.995;
constexpr double kMostUnitsInTwoArms = 0.001;

constexpr const char* kMetricNames[kNumReportMetrics] = {"output_tokens", "errors", "mean_logprob",
                                                         "score_kl", "score_top1"};
constexpr const char* kGateNames[kNumGates] = {"sample ratio", "one arm a unit",
                                               "served as assigned"};

// Who a request counts for: its unit, or itself where it has none.
uint64_t UnitOf(const ExposureRecord& record) {
  if (record.unit_hash != 0) return record.unit_hash;
  uint64_t own = 0;
  std::memcpy(&own, record.request_id.data() + 8, sizeof(own));  // a UUIDv7's random half
  return own;
}

// NaN: the record does not have it.
double ValueOf(const ExposureRecord& record, ReportMetric metric) {
  const bool done = record.kind == ExposureKind::kDone;
  const bool scored = record.kind == ExposureKind::kScored && record.score_tokens > 0;
  switch (metric) {
    case ReportMetric::kOutputTokens:
      return done ? record.output_tokens : NAN;
    case ReportMetric::kErrors:
      return done ? (record.grpc_status != 0 ? 1 : 0) : NAN;
    case ReportMetric::kMeanLogprob:
      return done ? record.mean_logprob : NAN;
    case ReportMetric::kScoreKl:
      return scored ? record.score_kl : NAN;
    case ReportMetric::kScoreTop1:
      return scored ? record.score_top1 : NAN;
  }
  return NAN;
}

// Each unit once, by the mean of its values; units by their hashes.
Moments OverUnits(const std::map<uint64_t, std::vector<double>>& values_by_unit) {
  Moments moments;
  for (const auto& [unit, values] : values_by_unit) {
    std::vector<double> sorted = values;
    std::sort(sorted.begin(), sorted.end());
    double sum = 0;
    for (const double value : sorted) sum += value;
    moments.Add(sum / static_cast<double>(sorted.size()));
  }
  return moments;
}

}  // namespace

const char* ReportMetricName(ReportMetric metric) { return kMetricNames[static_cast<int>(metric)]; }

ReportBuilder::ReportBuilder(const ExperimentPlan& plan, uint32_t experiment_number, int control)
    : plan_(plan), experiment_number_(experiment_number), control_(control) {
  VERNIER_CHECK(control >= 0 && static_cast<size_t>(control) < plan.arms.size());
  for (const Arm& arm : plan.arms) {
    arms_.push_back({.summary = {.name = arm.name, .variant = arm.variant}});
  }
}

void ReportBuilder::Add(const ExposureRecord& record) {
  if (record.experiment != experiment_number_) return;
  const bool bound = record.kind == ExposureKind::kBound;
  if (record.reason == ServedReason::kShadow || record.reason == ServedReason::kForced) {
    if (bound) ++(record.reason == ServedReason::kShadow ? shadow_ : forced_);
    return;
  }
  if (record.arm >= arms_.size()) return;  // of a plan that had more
  ArmData& arm = arms_[record.arm];
  const uint64_t unit = UnitOf(record);
  if (bound) {
    ++arm.summary.bound;
    ++bound_;
    served_as_assigned_ += record.served == record.assigned ? 1 : 0;
    arms_of_unit_[unit].insert(record.arm);
  } else if (record.kind == ExposureKind::kDone) {
    ++arm.summary.done;
    arm.summary.errors += record.grpc_status != 0 ? 1 : 0;
    arm.summary.queue.Add(record.queue_micros);
    arm.summary.first_token.Add(record.first_token_micros);
    arm.summary.token_p50.Add(record.token_p50_micros);
    arm.summary.total.Add(record.total_micros);
  }
  for (int metric = 0; metric < kNumReportMetrics; ++metric) {
    const double value = ValueOf(record, static_cast<ReportMetric>(metric));
    if (std::isfinite(value)) arm.values_by_unit[metric][unit].push_back(value);
  }
}

std::vector<GateResult> ReportBuilder::CheckGates() const {
  std::vector<int64_t> counts;
  std::vector<double> weights;
  for (size_t arm = 0; arm < arms_.size(); ++arm) {
    counts.push_back(arms_[arm].summary.bound);
    weights.push_back(plan_.arms[arm].weight);
  }
  const double ln_factor = SampleRatioLnBayesFactor(counts, weights);
  const double limit = std::log(1 / kSampleRatioAlpha);
  int64_t in_two_arms = 0;
  for (const auto& [unit, arms] : arms_of_unit_) in_two_arms += arms.size() > 1 ? 1 : 0;
  const auto units = std::max<double>(1, static_cast<double>(arms_of_unit_.size()));
  const double share_in_two = static_cast<double>(in_two_arms) / units;
  const double share_as_assigned =
      static_cast<double>(served_as_assigned_) / std::max<double>(1, static_cast<double>(bound_));
  const bool none = bound_ == 0;
  return {
      {Gate::kSampleRatio, none || ln_factor <= limit,
       absl::StrFormat("ln Bayes factor %.2f against the split, limit %.2f", ln_factor, limit)},
      {Gate::kOneArmAUnit, share_in_two <= kMostUnitsInTwoArms,
       absl::StrFormat("%d of %d units in more than one arm, limit %.1f %%", in_two_arms,
                       arms_of_unit_.size(), 100 * kMostUnitsInTwoArms)},
      {Gate::kServedAsAssigned, none || share_as_assigned >= kLeastServedAsAssigned,
       absl::StrFormat("%.2f %% served by the variant of their arm, at least %.1f %%",
                       100 * share_as_assigned, 100 * kLeastServedAsAssigned)},
  };
}

ExperimentReport ReportBuilder::Build(const SequenceOptions& options) const {
  ExperimentReport report{.experiment = plan_.id, .gates = CheckGates()};
  report.shadow = shadow_;
  report.forced = forced_;
  for (const GateResult& gate : report.gates) report.valid &= gate.passed;
  for (const ArmData& arm : arms_) {
    ArmSummary summary = arm.summary;
    summary.units = static_cast<int64_t>(
        arm.values_by_unit[static_cast<int>(ReportMetric::kOutputTokens)].size());
    for (int metric = 0; metric < kNumReportMetrics; ++metric) {
      summary.metrics[metric] = OverUnits(arm.values_by_unit[metric]);
    }
    report.arms.push_back(std::move(summary));
  }
  for (size_t arm = 0; arm < report.arms.size(); ++arm) {
    if (static_cast<int>(arm) == control_) continue;
    for (int metric = 0; metric < kNumReportMetrics; ++metric) {
      const Difference difference =
          DifferenceOf(report.arms[control_].metrics[metric], report.arms[arm].metrics[metric]);
      report.comparisons.push_back({static_cast<int>(arm), static_cast<ReportMetric>(metric),
                                    difference, ConfidenceSequence(difference, options),
                                    AnytimeP(difference, options)});
    }
  }
  return report;
}

std::string RenderReport(const ExperimentReport& report, int control) {
  std::string text = absl::StrCat("experiment ", report.experiment, "\n\n");
  absl::StrAppendFormat(&text, "%-12s %-8s %9s %9s %9s %7s %10s %10s %10s\n", "arm", "variant",
                        "requests", "ended", "units", "errors", "ttft p50", "ttft p99", "tokens");
  for (size_t i = 0; i < report.arms.size(); ++i) {
    const ArmSummary& arm = report.arms[i];
    absl::StrAppendFormat(&text, "%-12s %-8s %9d %9d %9d %7d %7.1f ms %7.1f ms %10.1f%s\n",
                          arm.name, arm.variant, arm.bound, arm.done, arm.units, arm.errors,
                          arm.first_token.Quantile(0.5) / 1e3, arm.first_token.Quantile(0.99) / 1e3,
                          arm.metrics[static_cast<int>(ReportMetric::kOutputTokens)].mean(),
                          static_cast<int>(i) == control ? "  (control)" : "");
  }
  absl::StrAppend(&text,
                  "\nLatency is that of arms that share a device: under the mixture, not a "
                  "property of a variant.\n\n");
  for (const GateResult& gate : report.gates) {
    absl::StrAppendFormat(&text, "%-4s %-20s %s\n", gate.passed ? "ok" : "FAIL",
                          kGateNames[static_cast<int>(gate.gate)], gate.reason);
  }
  absl::StrAppend(&text, "\n");
  if (!report.valid) {
    absl::StrAppend(&text, "INVALID: a gate failed, so nothing below may be concluded.\n");
  }
  for (const ArmComparison& comparison : report.comparisons) {
    if (comparison.difference.standard_error == 0) continue;
    absl::StrAppendFormat(&text, "%-12s %-14s %+.4g  [%+.4g, %+.4g]  p %.3g%s\n",
                          report.arms[comparison.arm].name, ReportMetricName(comparison.metric),
                          comparison.difference.mean, comparison.bounds.low, comparison.bounds.high,
                          comparison.p, report.valid ? "" : "  INVALID");
  }
  return text;
}

}  // namespace vernier
