#include "server/experiments/guardrails.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"

namespace vernier {
namespace {

const double kLnEvidence = std::log(1000.0);
constexpr double kMostFirstTokenRatio = 1.2;
constexpr double kMostLonger = 0.25, kMostShorter = 0.2;
constexpr double kHoldingAlpha = 0.05;

double Share(int64_t part, int64_t whole) {
  return 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

GateResult HoldFirstToken(const ArmSummary& control, const ArmSummary& treatment) {
  constexpr double kQuantile = 0.95;
  const Bounds theirs = QuantileRanks(control.first_token.count(), kQuantile, kHoldingAlpha);
  const Bounds ours = QuantileRanks(treatment.first_token.count(), kQuantile, kHoldingAlpha);
  const double ours_low = treatment.first_token.Quantile(ours.low);
  const double theirs_high = control.first_token.Quantile(theirs.high);
  const bool known = ours.low > 0 && theirs.high < 1;
  const bool passed = !known || ours_low <= kMostFirstTokenRatio * theirs_high;
  return {Gate::kFirstToken, passed,
          absl::StrFormat(
              "%s: first token's 95th percentile %.1f ms, the control's %.1f ms, limit %.0f %%",
              treatment.name, treatment.first_token.Quantile(kQuantile) / 1e3,
              control.first_token.Quantile(kQuantile) / 1e3, 100 * kMostFirstTokenRatio)};
}

GateResult HoldLength(const ArmSummary& treatment, const ArmComparison& tokens) {
  const double mean = tokens.control.mean();
  const bool passed =
      tokens.bounds.low <= kMostLonger * mean && tokens.bounds.high >= -kMostShorter * mean;
  return {Gate::kLength, passed,
          absl::StrFormat("%s: answers of %.1f tokens, the control's %.1f, limits %.0f and %.0f %%",
                          treatment.name, tokens.treatment.mean(), mean, 100 * (1 - kMostShorter),
                          100 * (1 + kMostLonger))};
}

}  // namespace

Guardrails::Watch::Watch(const GuardrailLimits& limits)
    : errors(limits.max_error_rate), broken(limits.max_broken_rate) {
  if (limits.max_kl) kl.emplace(*limits.max_kl);
}

Guardrails::Guardrails(const GuardrailLimits& limits, std::vector<std::string> arms, int control)
    : limits_(limits),
      arms_(std::move(arms)),
      control_(control),
      watches_(arms_.size(), Watch(limits)) {
  VERNIER_CHECK(control >= 0 && static_cast<size_t>(control) < arms_.size());
}

std::optional<Crossing> Guardrails::Add(const ExposureRecord& record) {
  const int arm = record.arm;
  if (crossed_ || record.reason == ServedReason::kForced) return std::nullopt;
  if (static_cast<size_t>(arm) >= arms_.size() || arm == control_) return std::nullopt;
  std::optional<Crossing> crossing;
  if (record.kind == ExposureKind::kDone) crossing = CheckEnd(arm, record);
  if (record.kind == ExposureKind::kScored) crossing = CheckScore(arm, record);
  crossed_ = crossing.has_value();
  return crossing;
}

std::optional<Crossing> Guardrails::CheckEnd(int arm, const ExposureRecord& record) {
  Watch& watch = watches_[arm];
  if (record.not_finite != 0) {
    return Crossing{arm, "not_finite",
                    absl::StrFormat("%s: logits that are not finite, limit 0", arms_[arm])};
  }
  const RequestEnd end = EndOf(record);
  if (limits_.off || end == RequestEnd::kSaysNothing) return std::nullopt;
  const bool failed = end == RequestEnd::kFailed;
  ++watch.ended;
  watch.failed += failed ? 1 : 0;
  watch.errors.Add(failed);
  if (failed && watch.errors.LnEvidence() > kLnEvidence) {
    return Crossing{
        arm, "errors",
        absl::StrFormat("%s: %d of %d requests failed (%.2f %%), limit %.2f %%", arms_[arm],
                        watch.failed, watch.ended, Share(watch.failed, watch.ended),
                        100 * limits_.max_error_rate)};
  }
  if (failed) return std::nullopt;
  const bool broken = IsBroken(record);
  ++watch.answered;
  watch.were_broken += broken ? 1 : 0;
  watch.broken.Add(broken);
  if (!broken || watch.broken.LnEvidence() <= kLnEvidence) return std::nullopt;
  return Crossing{
      arm, "broken",
      absl::StrFormat("%s: %d of %d answers are empty or loop (%.2f %%), limit %.2f %%", arms_[arm],
                      watch.were_broken, watch.answered, Share(watch.were_broken, watch.answered),
                      100 * limits_.max_broken_rate)};
}

std::optional<Crossing> Guardrails::CheckScore(int arm, const ExposureRecord& record) {
  Watch& watch = watches_[arm];
  if (limits_.off || !watch.kl || record.score_tokens == 0 || !std::isfinite(record.score_kl)) {
    return std::nullopt;
  }
  const double kl = std::max(0.0, static_cast<double>(record.score_kl));
  ++watch.scored;
  watch.kl_sum += kl;
  watch.kl->Add(kl);
  if (watch.kl->LnEvidence() <= kLnEvidence) return std::nullopt;
  return Crossing{arm, "kl",
                  absl::StrFormat("%s: KL of %.4g nats a token over %d answers, limit %.4g",
                                  arms_[arm], watch.kl_sum / static_cast<double>(watch.scored),
                                  watch.scored, *limits_.max_kl)};
}

std::vector<GateResult> HoldingGates(const ExperimentReport& report) {
  std::vector<GateResult> gates;
  const ArmSummary& control = report.arms[report.control];
  for (const ArmComparison& comparison : report.comparisons) {
    const bool tokens = comparison.metric == static_cast<int>(ReportMetric::kOutputTokens);
    if (!tokens || comparison.paired) continue;
    const ArmSummary& treatment = report.arms[comparison.arm];
    gates.push_back(HoldFirstToken(control, treatment));
    gates.push_back(HoldLength(treatment, comparison));
  }
  return gates;
}

}  // namespace vernier
