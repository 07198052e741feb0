#include "server/metrics_experiments.h"

#include <cmath>
#include <string>
#include <utility>

#include "server/instruments.h"

namespace vernier {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

constexpr const char* kServedReasons[] = {
    "", "assigned", "forced", "pinned", "fallback_memory", "fallback_error", "shadow"};

// One family while it is filled.
class Family {
 public:
  Family(const char* name, const char* help, MetricType type) : type_(type) {
    family_.name = name;
    family_.help = help;
    family_.type = type;
  }
  void Add(Labels labels, double value) {
    if (!std::isfinite(value)) return;  // a bound that is not known yet has no series
    ClientMetric& metric = family_.metric.emplace_back();
    for (auto& [key, text] : labels) metric.label.push_back({key, std::move(text)});
    (type_ == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  }
  void Add(Labels labels, int64_t value) { Add(std::move(labels), static_cast<double>(value)); }
  void MoveTo(std::vector<MetricFamily>* families) {
    if (!family_.metric.empty()) families->push_back(std::move(family_));
  }

 private:
  const MetricType type_;
  MetricFamily family_;
};

struct Families {
  static constexpr MetricType kCounter = MetricType::Counter, kGauge = MetricType::Gauge;
  Family exposures{"vernier_exp_exposures_total", "Requests that an experiment saw.", kCounter};
  Family finished{"vernier_exp_finished_total", "Of them, those that ended.", kCounter};
  Family sample_ratio{"vernier_exp_srm_ln_bf",
                      "ln of the Bayes factor against the arms' split; above 6.9 it is broken.",
                      kGauge};
  Family mean{"vernier_exp_metric_mean", "Mean of the treatment less that of the control.", kGauge};
  Family low{"vernier_exp_metric_cs_low", "Its confidence sequence, the lower end.", kGauge};
  Family high{"vernier_exp_metric_cs_high", "Its confidence sequence, the upper end.", kGauge};
  Family state{"vernier_exp_state", "1 for the state it is in.", kGauge};
  Family coverage{"vernier_exp_coverage", "Share of units that take part.", kGauge};
  Family rollbacks{"vernier_exp_rollbacks_total", "Rollbacks by guardrails.", kCounter};
  Family shadows{"vernier_exp_shadow_total", "Mirrored requests.", kCounter};
  Family dropped{"vernier_exp_log_dropped_total", "Exposures that could not be logged.", kCounter};
  Family feedback{"vernier_exp_feedback_total", "Feedback events.", kCounter};
};

std::string NameOf(const std::vector<std::string>& names, int index) {
  return index >= 0 && static_cast<size_t>(index) < names.size() ? names[static_cast<size_t>(index)]
                                                                 : "none";
}

void AddState(const Definition& definition, const std::string& id, Families* out) {
  for (int state = v1::Experiment::State_MIN + 1; state <= v1::Experiment::State_MAX; ++state) {
    out->state.Add({{"exp", id}, {"state", StateName(static_cast<v1::Experiment::State>(state))}},
                   definition.message.state() == state ? 1.0 : 0.0);
  }
  out->coverage.Add({{"exp", id}}, definition.message.state() == v1::Experiment::RUNNING
                                       ? definition.plan.coverage
                                       : 0.0);
}

void AddExperiment(const ExperimentFigures& figures, const std::vector<std::string>& variants,
                   Families* out) {
  const Definition& definition = *figures.experiment;
  const ExperimentReport& report = figures.report;
  const std::string& id = definition.plan.id;
  const auto arm_name = [&](int arm) {
    return arm >= 0 && static_cast<size_t>(arm) < definition.plan.arms.size()
               ? definition.plan.arms[static_cast<size_t>(arm)].name
               : "none";
  };
  AddState(definition, id, out);
  for (const GateResult& gate : report.gates) {
    if (gate.gate == Gate::kSampleRatio) out->sample_ratio.Add({{"exp", id}}, gate.figure);
  }
  for (const auto& [key, count] : figures.exposures) {
    const auto& [arm, served, reason] = key;
    out->exposures.Add({{"exp", id},
                        {"arm", arm_name(arm)},
                        {"served", NameOf(variants, served)},
                        {"reason", kServedReasons[static_cast<int>(reason)]}},
                       count);
  }
  for (const ArmSummary& arm : report.arms) {
    const auto add = [&](const char* outcome, int64_t count) {
      out->finished.Add({{"exp", id}, {"arm", arm.name}, {"outcome", outcome}}, count);
    };
    add("ok", arm.done - arm.errors - arm.broken);
    add("error", arm.errors);
    add("broken", arm.broken);
  }
  for (const ArmComparison& comparison : report.comparisons) {
    if (comparison.paired || comparison.difference.count == 0) continue;
    const Labels labels = {{"exp", id},
                           {"arm", arm_name(comparison.arm)},
                           {"metric", report.metrics[static_cast<size_t>(comparison.metric)]}};
    out->mean.Add(labels, comparison.difference.mean);
    out->low.Add(labels, comparison.bounds.low);
    out->high.Add(labels, comparison.bounds.high);
  }
  for (const ShadowSummary& shadow : report.shadows) {
    const auto add = [&](const char* outcome, int64_t count) {
      out->shadows.Add({{"exp", id}, {"arm", arm_name(shadow.arm)}, {"outcome", outcome}}, count);
    };
    add("scored", shadow.scored);
    add("dropped", shadow.dropped);
    add("failed", shadow.failed);
  }
  for (const auto& [guardrail, count] : figures.rollbacks) {
    out->rollbacks.Add({{"exp", id}, {"reason", guardrail}}, count);
  }
}

}  // namespace

void AppendExperimentFamilies(const ExperimentsFigures& figures,
                              const std::vector<std::string>& variants,
                              std::vector<MetricFamily>* families) {
  Families out;
  for (const ExperimentFigures& one : figures.experiments) AddExperiment(one, variants, &out);
  out.dropped.Add({}, figures.log_dropped);
  out.feedback.Add({{"outcome", "accepted"}}, figures.feedback_accepted);
  out.feedback.Add({{"outcome", "duplicate"}}, figures.feedback_duplicates);
  out.feedback.Add({{"outcome", "orphan"}}, figures.feedback_orphans);
  out.feedback.Add({{"outcome", "refused"}}, figures.feedback_refused);
  for (Family* family :
       {&out.exposures, &out.finished, &out.sample_ratio, &out.mean, &out.low, &out.high,
        &out.state, &out.coverage, &out.rollbacks, &out.shadows, &out.dropped, &out.feedback}) {
    family->MoveTo(families);
  }
}

}  // namespace vernier
