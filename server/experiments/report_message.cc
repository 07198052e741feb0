#include "server/experiments/report_message.h"

#include "server/experiments/guardrails.h"

namespace vernier {
namespace {

constexpr double kSecondsOfMicros = 1e-6;
constexpr const char* kVerdictNames[] = {"undecided", "non_inferior", "inferior"};

void SetQuantiles(const QuantileSketch& micros, v1::Quantiles* message) {
  message->set_count(static_cast<uint64_t>(micros.count()));
  if (micros.count() == 0) return;
  message->set_p50(micros.Quantile(0.5) * kSecondsOfMicros);
  message->set_p90(micros.Quantile(0.9) * kSecondsOfMicros);
  message->set_p99(micros.Quantile(0.99) * kSecondsOfMicros);
}

void SetArm(const ArmSummary& arm, v1::ArmReport* message) {
  message->set_arm(arm.name);
  message->set_variant(arm.variant);
  message->set_requests(static_cast<uint64_t>(arm.bound));
  message->set_ended(static_cast<uint64_t>(arm.done));
  message->set_errors(static_cast<uint64_t>(arm.errors));
  message->set_broken(static_cast<uint64_t>(arm.broken));
  message->set_units(static_cast<uint64_t>(arm.units));
  SetQuantiles(arm.queue, message->mutable_queue());
  SetQuantiles(arm.first_token, message->mutable_first_token());
  SetQuantiles(arm.token_p50, message->mutable_inter_token());
  SetQuantiles(arm.total, message->mutable_total());
}

void SetGate(const GateResult& gate, v1::GateReport* message) {
  message->set_gate(GateName(gate.gate));
  message->set_passed(gate.passed);
  message->set_reason(gate.reason);
}

void SetComparison(const ExperimentReport& report, const ArmComparison& comparison,
                   v1::MetricReport* message) {
  message->set_metric(report.metrics[comparison.metric]);
  message->set_arm(report.arms[comparison.arm].name);
  message->set_paired(comparison.paired);
  // Of pairs there is one count, and a mean of differences alone.
  const int64_t control =
      comparison.paired ? comparison.treatment.count() : comparison.control.count();
  message->set_control_count(static_cast<uint64_t>(control));
  message->set_treatment_count(static_cast<uint64_t>(comparison.treatment.count()));
  if (!comparison.paired) {
    message->set_control_mean(comparison.control.mean());
    message->set_treatment_mean(comparison.treatment.mean());
  }
  message->set_difference(comparison.difference.mean);
  message->set_low(comparison.bounds.low);
  message->set_high(comparison.bounds.high);
  message->set_p(comparison.p);
}

void SetPreference(const ExperimentReport& report, const ArmPreference& preference,
                   v1::PreferenceReport* message) {
  message->set_metric(report.metrics[preference.metric]);
  message->set_arm(report.arms[preference.arm].name);
  message->set_wins(static_cast<uint64_t>(preference.wins));
  message->set_losses(static_cast<uint64_t>(preference.losses));
  message->set_ties(static_cast<uint64_t>(preference.ties));
  message->set_win_rate_low(preference.win_rate.low);
  message->set_win_rate_high(preference.win_rate.high);
  message->set_p(preference.p);
}

void SetShadow(const ExperimentReport& report, const ShadowSummary& shadow,
               v1::ShadowReport* message) {
  message->set_arm(report.arms[shadow.arm].name);
  message->set_mirrored(static_cast<uint64_t>(shadow.mirrored));
  message->set_dropped(static_cast<uint64_t>(shadow.dropped));
  message->set_failed(static_cast<uint64_t>(shadow.failed));
  message->set_broken(static_cast<uint64_t>(shadow.broken));
  message->set_scored(static_cast<uint64_t>(shadow.scored));
  if (shadow.scored == 0) return;
  message->set_kl_mean(shadow.kl.mean());
  message->set_kl_low(shadow.kl_bounds.low);
  message->set_kl_high(shadow.kl_bounds.high);
  message->set_top1_mean(shadow.top1_mean);
  message->set_first_divergence_p50(shadow.same_tokens.Quantile(0.5) - 1);
  message->set_same_share(static_cast<double>(shadow.equal) / static_cast<double>(shadow.scored));
  message->set_length_ratio_mean(shadow.length_ratio.mean());
}

}  // namespace

v1::ExperimentReport ReportMessage(const ExperimentReport& report) {
  v1::ExperimentReport message;
  for (const ArmSummary& arm : report.arms) SetArm(arm, message.add_arms());
  for (const GateResult& gate : report.gates) SetGate(gate, message.add_gates());
  for (const GateResult& gate : HoldingGates(report)) SetGate(gate, message.add_holds());
  message.set_valid(report.valid);
  for (const ArmComparison& comparison : report.comparisons) {
    SetComparison(report, comparison, message.add_metrics());
  }
  for (const ArmPreference& preference : report.preferences) {
    SetPreference(report, preference, message.add_preferences());
  }
  for (const ShadowSummary& shadow : report.shadows) {
    SetShadow(report, shadow, message.add_shadows());
  }
  for (const Verdict& verdict : report.verdicts) {
    auto* entry = message.add_verdicts();
    entry->set_arm(report.arms[verdict.arm].name);
    entry->set_verdict(kVerdictNames[static_cast<int>(verdict.verdict)]);
    entry->set_needed(verdict.needed);
    entry->set_reason(verdict.reason);
  }
  message.set_unit_share(report.unit_share);
  message.set_forced(static_cast<uint64_t>(report.forced));
  message.set_without_unit(static_cast<uint64_t>(report.without_unit));
  message.set_feedback(static_cast<uint64_t>(report.feedback));
  message.set_feedback_orphans(static_cast<uint64_t>(report.feedback_orphans));
  message.set_feedback_left_out(static_cast<uint64_t>(report.feedback_left_out));
  message.set_exposures_forgotten(static_cast<uint64_t>(report.exposures_forgotten));
  return message;
}

}  // namespace vernier
