// A report for tests: a canary of nf4 on half of the sessions, undecided.
#pragma once

#include <string>

#include "vernier/v1/experiments.pb.h"

namespace vernier::cli {

inline void SetQuantiles(double p50, v1::Quantiles* quantiles) {
  quantiles->set_count(1000);
  quantiles->set_p50(p50);
  quantiles->set_p90(1.5 * p50);
  quantiles->set_p99(2.5 * p50);
}

inline v1::ArmReport* AddArm(const std::string& name, const std::string& variant,
                             v1::ExperimentReport* report) {
  v1::ExperimentArm* arm = report->mutable_experiment()->add_arms();
  arm->set_name(name);
  arm->set_variant(variant);
  v1::ArmReport* out = report->add_arms();
  out->set_arm(name);
  out->set_variant(variant);
  out->set_requests(4120);
  out->set_ended(4100);
  out->set_errors(3);
  out->set_broken(12);
  out->set_units(1370);
  SetQuantiles(0.0021, out->mutable_queue());
  SetQuantiles(0.0637, out->mutable_first_token());
  SetQuantiles(0.0285, out->mutable_inter_token());
  SetQuantiles(1.25, out->mutable_total());
  return out;
}

inline v1::MetricReport* AddMetric(const std::string& metric, const std::string& arm,
                                   double control, double difference, double half,
                                   v1::ExperimentReport* report) {
  v1::MetricReport* out = report->add_metrics();
  out->set_metric(metric);
  out->set_arm(arm);
  out->set_control_count(1370);
  out->set_treatment_count(1355);
  out->set_control_mean(control);
  out->set_treatment_mean(control + difference);
  out->set_difference(difference);
  out->set_low(difference - half);
  out->set_high(difference + half);
  out->set_p(0.31);
  return out;
}

inline void AddGate(const std::string& gate, bool passed, const std::string& reason,
                    v1::ExperimentReport* report) {
  v1::GateReport* out = report->add_gates();
  out->set_gate(gate);
  out->set_passed(passed);
  out->set_reason(reason);
}

inline v1::ShadowReport* AddShadow(const std::string& arm, v1::ExperimentReport* report) {
  v1::ShadowReport* shadow = report->add_shadows();
  shadow->set_arm(arm);
  shadow->set_mirrored(212);
  shadow->set_dropped(9);
  shadow->set_scored(203);
  shadow->set_kl_mean(0.0312);
  shadow->set_kl_low(0.0291);
  shadow->set_kl_high(0.0333);
  shadow->set_top1_mean(0.934);
  shadow->set_first_divergence_p50(17);
  shadow->set_same_share(0.21);
  shadow->set_length_ratio_mean(1.04);
  return shadow;
}

inline v1::ExperimentReport CanaryReport() {
  v1::ExperimentReport report;
  v1::Experiment* experiment = report.mutable_experiment();
  experiment->set_id("nf4-canary");
  experiment->set_version(7);
  experiment->set_state(v1::Experiment::RUNNING);
  experiment->set_state_reason("ramped to 25 % of sessions for nf4");
  experiment->set_unit(v1::Experiment::SESSION);
  for (const double share : {0.02, 0.1, 0.2, 0.5, 1.0}) experiment->add_ramp(share);
  experiment->set_step(3);
  experiment->mutable_decision()->set_primary("thumbs_up");
  experiment->mutable_decision()->set_margin(0.02);
  experiment->mutable_guardrails()->set_max_error_rate(0.003);
  experiment->mutable_guardrails()->set_max_broken_rate(0.02);
  v1::FeedbackMetric* metric = experiment->add_metrics();
  metric->set_name("thumbs_up");
  metric->set_type(v1::FeedbackMetric::BOOL);
  AddArm("fp16", "fp16", &report);
  AddArm("nf4", "nf4", &report)->set_errors(5);
  report.set_valid(true);
  AddGate("sample ratio", true,
          "4120 to 4120 where equal shares were meant: ln Bayes factor -3.1, limit 6.9", &report);
  AddGate("one arm a unit", true, "0.0 % of units saw two arms, limit 1 %", &report);
  AddGate("served as assigned", true, "100.0 %, at least 99.5 %", &report);
  AddMetric("thumbs_up", "nf4", 0.8, -0.012, 0.029, &report);
  AddMetric("output_tokens", "nf4", 180.2, 9.4, 6.1, &report)->set_p(0.004);
  AddMetric("errors", "nf4", 0.0007, 0.0005, 0.0016, &report);
  AddShadow("nf4", &report);
  v1::ExperimentReport::Verdict* verdict = report.add_verdicts();
  verdict->set_arm("nf4");
  verdict->set_verdict("undecided");
  verdict->set_needed(6852);
  report.set_forced(31);
  report.set_without_unit(118);
  report.set_feedback(911);
  report.set_feedback_orphans(2);
  return report;
}

}  // namespace vernier::cli
