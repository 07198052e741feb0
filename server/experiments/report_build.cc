// What is concluded from what was added: gates, differences, preferences, shadows, verdicts.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "server/experiments/report.h"

namespace vernier {
namespace {

constexpr double kSampleRatioAlpha = 0.001;
constexpr double kLeastServedAsAssigned = 0.995;
constexpr double kMostUnitsInTwoArms = 0.001;
constexpr double kPower = 0.9;  // of the test of fixed size that is shown beside
// Fewer units an arm (or pairs) decide nothing. The sequences are asymptotic: with 4 % discordant
// pairs, looked at from 100 on, 5.6 % of 4,000 runs took a loss of the margin for none; from 300
// on, 4.3 %.
constexpr int64_t kLeastDecisionCount = 300;

constexpr const char* kStratumNames[kNumStrata] = {"short", "medium", "long"};
constexpr uint32_t kShortPrompt = 256, kMediumPrompt = 2048;

Difference Reversed(Difference difference) {
  difference.mean = -difference.mean;
  return difference;
}

}  // namespace

PromptStratum StratumOf(uint32_t prompt_tokens) {
  if (prompt_tokens <= kShortPrompt) return PromptStratum::kShort;
  return prompt_tokens <= kMediumPrompt ? PromptStratum::kMedium : PromptStratum::kLong;
}

const char* StratumName(PromptStratum stratum) { return kStratumNames[static_cast<int>(stratum)]; }

bool ReportBuilder::SmallerIsBetter(int metric) const {
  if (metric >= kNumReportMetrics) {
    return options_.feedback[metric - kNumReportMetrics].smaller_is_better;
  }
  const auto ours = static_cast<ReportMetric>(metric);
  return ours != ReportMetric::kMeanLogprob && ours != ReportMetric::kScoreTop1;
}

bool ReportBuilder::IsRate(int metric) const {
  if (metric >= kNumReportMetrics) {
    return options_.feedback[metric - kNumReportMetrics].kind == FeedbackMetric::Kind::kBool;
  }
  return static_cast<ReportMetric>(metric) == ReportMetric::kErrors;
}

Moments ReportBuilder::MomentsOf(int arm, int column, int metric) const {
  return table_.Of(arm, column).In(scales_[metric]);
}

std::vector<GateResult> ReportBuilder::CheckGates() const {
  // A unit was drawn once, however many requests it has; one without a unit was drawn for itself.
  const UnitTable::Counts units = table_.CountUnits();
  std::vector<int64_t> drawn;
  std::vector<double> weights;
  for (size_t arm = 0; arm < arms_.size(); ++arm) {
    drawn.push_back(units.in_arm[arm] + alone_[arm]);
    weights.push_back(plan_.arms[arm].weight);
  }
  const double ln_factor = SampleRatioLnBayesFactor(drawn, weights);
  const double limit = std::log(1 / kSampleRatioAlpha);
  const double share_in_several =
      static_cast<double>(units.in_several_arms) / std::max(1.0, static_cast<double>(units.units));
  const double share_as_assigned =
      static_cast<double>(served_as_assigned_) / std::max(1.0, static_cast<double>(bound_));
  return {
      {Gate::kSampleRatio, ln_factor <= limit,
       absl::StrFormat("ln Bayes factor %.2f against the split, limit %.2f", ln_factor, limit),
       ln_factor},
      {Gate::kOneArmAUnit, share_in_several <= kMostUnitsInTwoArms,
       absl::StrFormat("%d of %d units in more than one arm, limit %.1f %%", units.in_several_arms,
                       units.units, 100 * kMostUnitsInTwoArms),
       share_in_several},
      {Gate::kServedAsAssigned, bound_ == 0 || share_as_assigned >= kLeastServedAsAssigned,
       absl::StrFormat("%.2f %% served by the variant of their arm, at least %.1f %%",
                       100 * share_as_assigned, 100 * kLeastServedAsAssigned),
       share_as_assigned},
  };
}

ArmComparison ReportBuilder::Compare(int arm, int metric) const {
  ArmComparison comparison{.arm = arm, .metric = metric};
  comparison.control = MomentsOf(control_, metric, metric);
  comparison.treatment = MomentsOf(arm, metric, metric);
  comparison.difference = DifferenceOf(comparison.control, comparison.treatment);
  comparison.bounds = ConfidenceSequence(comparison.difference, options_.sequence);
  comparison.p = AnytimeP(comparison.difference, options_.sequence);
  return comparison;
}

ArmComparison ReportBuilder::ComparePairs(int arm, int metric) const {
  ArmComparison comparison{.arm = arm, .metric = metric, .paired = true};
  comparison.treatment = MomentsOf(arm, PairColumn(metric), metric);
  comparison.difference = DifferenceOf(comparison.treatment);
  comparison.bounds = ConfidenceSequence(comparison.difference, options_.sequence);
  comparison.p = AnytimeP(comparison.difference, options_.sequence);
  return comparison;
}

std::vector<ArmPreference> ReportBuilder::Preferences() const {
  const size_t arms = arms_.size();
  const size_t metrics = options_.feedback.size();
  std::vector<ArmPreference> all(arms * metrics);
  join_.ForEach([&](const FeedbackJoin::Entry& entry) {
    const int metric = entry.value.metric;
    if (options_.feedback[metric].kind != FeedbackMetric::Kind::kPreference) return;
    if (!entry.exposed || !entry.over) return;
    const int liked = entry.exposed->arm, other = entry.over->arm;
    const bool won = other == control_;
    const int treatment = won ? liked : other;
    if (won == (liked == control_) || static_cast<size_t>(treatment) >= arms) return;
    ArmPreference& preference = all[treatment * metrics + metric];
    ++(entry.value.value == 0 ? preference.ties : won ? preference.wins : preference.losses);
  });
  std::vector<ArmPreference> found;
  for (size_t i = 0; i < all.size(); ++i) {
    ArmPreference& preference = all[i];
    if (preference.wins + preference.losses + preference.ties == 0) continue;
    preference.arm = static_cast<int>(i / metrics);
    preference.metric = kNumReportMetrics + static_cast<int>(i % metrics);
    preference.p =
        std::min(1.0, std::exp(-LnPreferenceEvidence(preference.wins, preference.losses)));
    preference.win_rate =
        WinRateSequence(preference.wins, preference.losses, options_.sequence.alpha);
    found.push_back(preference);
  }
  return found;
}

ShadowSummary ReportBuilder::Shadow(int arm) const {
  ShadowSummary summary = shadows_[arm].summary;
  const int kl = static_cast<int>(ReportMetric::kScoreKl);
  summary.arm = arm;
  summary.kl = MomentsOf(arm, PairColumn(kl), kl);
  summary.kl_bounds = ConfidenceSequence(DifferenceOf(summary.kl), options_.sequence);
  summary.length_ratio = shadows_[arm].length_ratio.In(FixedPoint(kMostLengthRatio));
  const int top1 = static_cast<int>(ReportMetric::kScoreTop1);
  summary.top1_mean = 1 + MomentsOf(arm, PairColumn(top1), top1).mean();
  return summary;
}

NonInferiority ReportBuilder::Judge(const Difference& difference) const {
  const DecisionRule& rule = *options_.decision;
  return JudgeNonInferiority(SmallerIsBetter(rule.metric) ? Reversed(difference) : difference,
                             rule.margin, options_.sequence);
}

Verdict ReportBuilder::Decide(int arm) const {
  const DecisionRule& rule = *options_.decision;
  const auto moments = [&](int of_arm, int column) {
    return MomentsOf(of_arm, column, rule.metric);
  };
  const auto difference = [&](int column) {
    const Moments treatment = moments(arm, column);
    return rule.by_pairs ? DifferenceOf(treatment)
                         : DifferenceOf(moments(control_, column), treatment);
  };
  const auto enough = [&](int column) {
    const int64_t treated = moments(arm, column).count();
    return treated >= kLeastDecisionCount &&
           (rule.by_pairs || moments(control_, column).count() >= kLeastDecisionCount);
  };
  Verdict verdict{.arm = arm};
  const int column = rule.by_pairs ? PairColumn(rule.metric) : rule.metric;
  const double alpha = options_.sequence.alpha;
  if (IsRate(rule.metric)) {
    const Moments treatment = moments(arm, column);
    verdict.needed =
        rule.by_pairs
            ? PairedSampleSize(treatment.Variance(), rule.margin, alpha, kPower)
            : SplitSampleSize(moments(control_, column).mean(), rule.margin, alpha, kPower);
  }
  const Difference whole = difference(column);
  const Bounds bounds = OneSidedSequences(whole, options_.sequence);
  verdict.reason = absl::StrFormat("%s %+.4g within [%.4g, %.4g], margin %.4g",
                                   rule.by_pairs ? "difference of pairs" : "difference", whole.mean,
                                   bounds.low, bounds.high, rule.margin);
  if (plan_.arms[static_cast<size_t>(arm)].variant ==
      plan_.arms[static_cast<size_t>(control_)].variant) {
    verdict.reason = "an A/A test: both arms have one variant, so there is nothing to decide";
    return verdict;
  }
  if (!enough(column)) {
    verdict.reason = absl::StrFormat("fewer than %d %s", kLeastDecisionCount,
                                     rule.by_pairs ? "pairs" : "units in an arm");
    return verdict;
  }
  verdict.verdict = Judge(whole);
  if (verdict.verdict != NonInferiority::kNonInferior) return verdict;
  for (int i = 0; i < kNumStrata; ++i) {
    const auto stratum = static_cast<PromptStratum>(i);
    const int of_stratum = StratumColumn(stratum);
    if (!enough(of_stratum) || Judge(difference(of_stratum)) != NonInferiority::kInferior) continue;
    verdict.verdict = NonInferiority::kUndecided;
    verdict.reason =
        absl::StrFormat("inferior for %s prompts: difference %+.4g, margin %.4g",
                        StratumName(stratum), difference(of_stratum).mean, rule.margin);
    return verdict;
  }
  return verdict;
}

ExperimentReport ReportBuilder::Build() const {
  ExperimentReport report{.experiment = plan_.id, .control = control_, .gates = CheckGates()};
  for (int metric = 0; metric < NumMetrics(); ++metric) report.metrics.push_back(NameOf(metric));
  for (const GateResult& gate : report.gates) report.valid &= gate.passed;
  report.arms = arms_;
  for (int arm = 0; arm < static_cast<int>(arms_.size()); ++arm) {
    report.arms[arm].units = table_.Of(arm, static_cast<int>(ReportMetric::kOutputTokens)).count();
    if (!options_.unit_is_request) report.without_unit += alone_[arm];
    if (arm == control_) continue;
    for (int metric = 0; metric < NumMetrics(); ++metric) {
      const bool ours = metric < kNumReportMetrics;
      if (!ours && !IsCompared(options_.feedback[metric - kNumReportMetrics].kind)) continue;
      report.comparisons.push_back(Compare(arm, metric));
    }
    const ShadowSummary shadow = Shadow(arm);
    if (shadow.mirrored > 0) report.shadows.push_back(shadow);
    for (int metric = 0; shadow.mirrored > 0 && metric < kNumReportMetrics; ++metric) {
      report.comparisons.push_back(ComparePairs(arm, metric));
    }
    if (options_.decision) report.verdicts.push_back(Decide(arm));
  }
  report.preferences = Preferences();
  report.unit_share = table_.share();
  report.forced = forced_;
  join_.ForEach([&](const FeedbackJoin::Entry& entry) {
    ++report.feedback;
    const auto kind = options_.feedback[entry.value.metric].kind;
    const bool whole = entry.exposed && (kind != FeedbackMetric::Kind::kPreference || entry.over);
    report.feedback_orphans += whole ? 0 : 1;
  });
  report.feedback_left_out = join_.left_out();
  report.exposures_forgotten = join_.forgotten();
  return report;
}

}  // namespace vernier
