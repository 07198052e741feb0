#include "server/experiments/reporting.h"

#include <utility>

#include "server/experiments/unit_hash.h"

namespace vernier {
namespace {

FeedbackMetric::Kind KindOf(v1::FeedbackMetric::Type type) {
  switch (type) {
    case v1::FeedbackMetric::FLOAT:
      return FeedbackMetric::Kind::kFloat;
    case v1::FeedbackMetric::TEXT:
      return FeedbackMetric::Kind::kText;
    case v1::FeedbackMetric::PREFERENCE:
      return FeedbackMetric::Kind::kPreference;
    default:
      return FeedbackMetric::Kind::kBool;
  }
}

}  // namespace

std::unique_ptr<ReportBuilder> MakeReport(const Definition& definition) {
  const v1::Experiment& message = definition.message;
  ReportOptions options;
  for (const v1::FeedbackMetric& metric : message.metrics()) {
    options.feedback.push_back({.name = metric.name(),
                                .kind = KindOf(metric.type()),
                                .smaller_is_better = metric.smaller_is_better(),
                                .low = metric.low(),
                                .high = metric.high()});
  }
  options.unit_is_request = message.unit() == v1::Experiment::REQUEST;
  if (message.has_decision()) {
    const v1::ExperimentDecision& decision = message.decision();
    options.sequence = {decision.alpha(), decision.tuned_count()};
    options.decision = DecisionRule{.metric = FindMetric(decision.primary(), options.feedback),
                                    .margin = decision.margin(),
                                    .by_pairs = decision.by_pairs()};
  }
  return std::make_unique<ReportBuilder>(definition.plan, definition.number, definition.control,
                                         std::move(options));
}

std::unique_ptr<Guardrails> MakeGuardrails(const Definition& definition) {
  const v1::ExperimentGuardrails& from = definition.message.guardrails();
  GuardrailLimits limits{.max_error_rate = from.max_error_rate(),
                         .max_broken_rate = from.max_broken_rate(),
                         .off = from.off()};
  if (from.has_max_kl()) limits.max_kl = from.max_kl();
  std::vector<std::string> arms;
  for (const Arm& arm : definition.plan.arms) arms.push_back(arm.name);
  return std::make_unique<Guardrails>(limits, std::move(arms), definition.control);
}

FeedbackValue ValueOf(const Definition& definition, const StoredFeedback& feedback) {
  const auto& metrics = definition.message.metrics();
  int metric = 0;
  while (metric < metrics.size() && metrics[metric].name() != feedback.metric) ++metric;
  return {.exposure_id = feedback.exposure,
          .metric = metric,
          .value = feedback.value,
          .unix_micros = static_cast<uint64_t>(feedback.unix_micros),
          .source_hash = UnitHash({}, feedback.source),
          .over = feedback.over};
}

}  // namespace vernier
