#include "server/experiments/definition.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/status_payload.h"

namespace vernier {
namespace {

using v1::Experiment;

constexpr size_t kMaxName = 64;
constexpr int kMaxRamp = 32;
constexpr int kMaxTenants = 64;
constexpr int kMaxMetrics = 32;
constexpr size_t kMaxReason = 256;
constexpr double kDefaultTreatmentShares[] = {0.01, 0.05, 0.10, 0.25, 0.50};
// Metrics that every request has, beside what Feedback brings.
constexpr absl::string_view kBuiltIn[] = {"output_tokens", "errors", "mean_logprob", "score_kl",
                                          "score_top1"};

absl::Status Invalid(std::string field, std::string value, std::string limit) {
  return InvalidField({std::move(field), std::move(value), std::move(limit)});
}

absl::Status CheckNumber(const std::string& field, double value, bool good,
                         const std::string& limit) {
  return good ? absl::OkStatus() : Invalid(field, absl::StrCat(value), limit);
}

absl::Status CompleteArms(Experiment* e, std::span<const std::string> variants) {
  if (e->arms_size() < 2 || e->arms_size() > kMaxArms) {
    return Invalid("arms", absl::StrCat(e->arms_size(), " arms"),
                   absl::StrCat("2 to ", kMaxArms, " arms"));
  }
  double sum = 0;
  std::set<std::string> names;
  for (int i = 0; i < e->arms_size(); ++i) {
    const v1::ExperimentArm& arm = e->arms(i);
    const std::string field = absl::StrCat("arms[", i, "].");
    if (!IsName(arm.name()) || !names.insert(arm.name()).second) {
      return Invalid(field + "name", PrintableName(arm.name()),
                     "[A-Za-z0-9._-]{1,64}, unlike the others");
    }
    if (std::find(variants.begin(), variants.end(), arm.variant()) == variants.end()) {
      return Invalid(field + "variant", PrintableName(arm.variant()),
                     absl::StrCat("one of ", absl::StrJoin(variants, ", ")));
    }
    if (!(arm.weight() >= 0 && arm.weight() <= 1)) {
      return Invalid(field + "weight", absl::StrCat(arm.weight()), "(0, 1]");
    }
    sum += arm.weight();
  }
  const bool equal = sum == 0;
  for (int i = 0; i < e->arms_size(); ++i) {
    if (equal) e->mutable_arms(i)->set_weight(1.0 / e->arms_size());
    if (e->arms(i).weight() == 0) {
      return Invalid(absl::StrCat("arms[", i, "].weight"), "0", "(0, 1], or all 0 for equal ones");
    }
  }
  if (!equal && std::abs(sum - 1) > 0.01) {
    return Invalid("arms", absl::StrCat("weights that sum to ", sum), "a sum of 1 within 0.01");
  }
  if (e->control().empty()) e->set_control(e->arms(0).name());
  if (names.count(e->control()) == 0) {
    return Invalid("control", PrintableName(e->control()), "the name of an arm");
  }
  return absl::OkStatus();
}

absl::Status CompleteRamp(Experiment* e) {
  if (e->ramp_size() == 0 && e->arms_size() == 2) {
    for (const v1::ExperimentArm& arm : e->arms()) {
      if (arm.name() == e->control()) continue;
      for (const double share : kDefaultTreatmentShares) {
        const double coverage = std::min(1.0, share / arm.weight());
        if (e->ramp_size() == 0 || e->ramp(e->ramp_size() - 1) < coverage) e->add_ramp(coverage);
      }
    }
  }
  if (e->ramp_size() == 0) e->add_ramp(1);
  if (e->ramp_size() > kMaxRamp) {
    return Invalid("ramp", absl::StrCat(e->ramp_size(), " steps"),
                   absl::StrCat("at most ", kMaxRamp, " steps"));
  }
  double before = 0;
  for (const double share : e->ramp()) {
    if (!(share > before && share <= 1)) {
      return Invalid("ramp", absl::StrCat(share), "ascending shares in (0, 1]");
    }
    before = share;
  }
  return absl::OkStatus();
}

absl::Status CompleteLayer(Experiment* e) {
  if (!e->layer().empty() && !IsName(e->layer())) {
    return Invalid("layer", PrintableName(e->layer()), "[A-Za-z0-9._-]{0,64}");
  }
  if (e->slots_begin() == 0 && e->slots_end() == 0) e->set_slots_end(1);
  if (!(e->slots_begin() >= 0 && e->slots_begin() < e->slots_end() && e->slots_end() <= 1)) {
    return Invalid("slots_end", absl::StrCat("[", e->slots_begin(), ", ", e->slots_end(), ")"),
                   "a part of [0, 1]");
  }
  return absl::OkStatus();
}

absl::Status CheckTargeting(const v1::ExperimentTargeting& targeting) {
  if (targeting.tenants_size() > kMaxTenants) {
    return Invalid("targeting.tenants", absl::StrCat(targeting.tenants_size(), " tenants"),
                   absl::StrCat("at most ", kMaxTenants));
  }
  for (const std::string& tenant : targeting.tenants()) {
    if (!IsName(tenant)) {
      return Invalid("targeting.tenants", PrintableName(tenant), "[A-Za-z0-9._-]{1,64}");
    }
  }
  if (targeting.has_min_prompt_tokens() && targeting.has_max_prompt_tokens() &&
      targeting.min_prompt_tokens() > targeting.max_prompt_tokens()) {
    return Invalid("targeting.min_prompt_tokens", absl::StrCat(targeting.min_prompt_tokens()),
                   absl::StrCat("at most max_prompt_tokens ", targeting.max_prompt_tokens()));
  }
  return absl::OkStatus();
}

absl::Status CheckMetrics(const Experiment& e) {
  if (e.metrics_size() > kMaxMetrics) {
    return Invalid("metrics", absl::StrCat(e.metrics_size(), " metrics"),
                   absl::StrCat("at most ", kMaxMetrics));
  }
  std::set<std::string> names(std::begin(kBuiltIn), std::end(kBuiltIn));
  for (int i = 0; i < e.metrics_size(); ++i) {
    const v1::FeedbackMetric& metric = e.metrics(i);
    const std::string field = absl::StrCat("metrics[", i, "].");
    if (!IsName(metric.name()) || !names.insert(metric.name()).second) {
      return Invalid(field + "name", PrintableName(metric.name()),
                     absl::StrCat("[A-Za-z0-9._-]{1,64}, unlike the others and ",
                                  absl::StrJoin(kBuiltIn, ", ")));
    }
    if (!v1::FeedbackMetric::Type_IsValid(metric.type()) ||
        metric.type() == v1::FeedbackMetric::TYPE_UNSPECIFIED) {
      return Invalid(field + "type", absl::StrCat(metric.type()),
                     "BOOL, FLOAT, TEXT or PREFERENCE");
    }
    if (metric.type() == v1::FeedbackMetric::FLOAT &&
        !(std::isfinite(metric.low()) && std::isfinite(metric.high()) &&
          metric.low() < metric.high())) {
      return Invalid(field + "high", absl::StrCat("[", metric.low(), ", ", metric.high(), "]"),
                     "finite bounds, low below high");
    }
  }
  return absl::OkStatus();
}

bool IsComparable(const Experiment& e, absl::string_view metric) {
  if (std::find(std::begin(kBuiltIn), std::end(kBuiltIn), metric) != std::end(kBuiltIn))
    return true;
  return std::any_of(e.metrics().begin(), e.metrics().end(), [&](const v1::FeedbackMetric& m) {
    return m.name() == metric && m.type() != v1::FeedbackMetric::TEXT;
  });
}

absl::Status CompleteDecision(Experiment* e) {
  if (!e->has_decision()) return absl::OkStatus();
  v1::ExperimentDecision* decision = e->mutable_decision();
  if (!IsComparable(*e, decision->primary())) {
    return Invalid(
        "decision.primary", PrintableName(decision->primary()),
        absl::StrCat("a metric that is compared: of metrics, or ", absl::StrJoin(kBuiltIn, ", ")));
  }
  const double margin = decision->margin();
  if (absl::Status s = CheckNumber("decision.margin", margin, margin > 0 && std::isfinite(margin),
                                   "above 0: what the treatment may lose is yours to say");
      !s.ok()) {
    return s;
  }
  if (!decision->has_alpha()) decision->set_alpha(0.05);
  const double alpha = decision->alpha();
  if (absl::Status s = CheckNumber("decision.alpha", alpha, alpha > 0 && alpha <= 0.5, "(0, 0.5]");
      !s.ok()) {
    return s;
  }
  if (!decision->has_tuned_count()) decision->set_tuned_count(5000);
  const bool of_feedback = std::find(std::begin(kBuiltIn), std::end(kBuiltIn),
                                     decision->primary()) == std::end(kBuiltIn);
  if (decision->by_pairs() && (e->shadow_share() == 0 || of_feedback)) {
    return Invalid("decision.by_pairs", "true",
                   "false without a shadow_share, or for a metric of "
                   "Feedback: shadows get none");
  }
  const double tuned = decision->tuned_count();
  return CheckNumber("decision.tuned_count", tuned, tuned >= 10 && tuned <= 1e12, "[10, 1e12]");
}

absl::Status CompleteGuardrails(Experiment* e) {
  v1::ExperimentGuardrails* guardrails = e->mutable_guardrails();
  if (!guardrails->has_max_error_rate()) guardrails->set_max_error_rate(0.003);
  if (!guardrails->has_max_broken_rate()) guardrails->set_max_broken_rate(0.02);
  const double errors = guardrails->max_error_rate(), broken = guardrails->max_broken_rate();
  absl::Status s =
      CheckNumber("guardrails.max_error_rate", errors, errors > 0 && errors < 1, "(0, 1)");
  if (!s.ok()) return s;
  s = CheckNumber("guardrails.max_broken_rate", broken, broken > 0 && broken < 1, "(0, 1)");
  if (!s.ok() || !guardrails->has_max_kl()) return s;
  const double kl = guardrails->max_kl();
  return CheckNumber("guardrails.max_kl", kl, kl > 0 && std::isfinite(kl), "above 0");
}

// `salt` of the draw: raising the bucket version draws everybody anew.
std::string DrawSalt(const Experiment& e) {
  return e.bucket_version() == 0 ? e.salt() : absl::StrCat(e.salt(), "#", e.bucket_version());
}

int ArmIndex(const Experiment& e, const std::string& name) {
  for (int i = 0; i < e.arms_size(); ++i) {
    if (e.arms(i).name() == name) return i;
  }
  return -1;
}

absl::Status NotIn(const Experiment& e, absl::string_view action) {
  return absl::FailedPreconditionError(absl::StrCat(
      "experiment ", e.id(), " is ", StateName(e.state()), ", which ", action, " does not take"));
}

absl::StatusOr<uint32_t> NextStep(const Experiment& e,
                                  const v1::ControlExperimentRequest& request) {
  const uint32_t step = request.has_step() ? request.step() : e.step() + 1;
  if (step < static_cast<uint32_t>(e.ramp_size())) return step;
  return Invalid("step", absl::StrCat(step),
                 absl::StrCat("a step of the ramp, 0 to ", e.ramp_size() - 1));
}

absl::StatusOr<std::string> ArmToPromote(const Experiment& e, const std::string& asked) {
  if (asked.empty() && e.arms_size() == 2) {
    return e.arms(e.arms(0).name() == e.control() ? 1 : 0).name();
  }
  if (ArmIndex(e, asked) < 0) return Invalid("arm", PrintableName(asked), "the name of an arm");
  return asked;
}

}  // namespace

bool IsName(absl::string_view text) {
  return !text.empty() && text.size() <= kMaxName &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' ||
                  c == '-';
         });
}

std::string PrintableName(absl::string_view name) {
  std::string out(name.substr(0, kMaxName));
  std::replace_if(
      out.begin(), out.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  return out;
}

std::string StateName(Experiment::State state) {
  return absl::AsciiStrToLower(Experiment::State_Name(state));
}

absl::StatusOr<Experiment> CompleteExperiment(const Experiment& given,
                                              std::span<const std::string> variants) {
  Experiment e = given;
  if (!IsName(e.id())) return Invalid("id", PrintableName(e.id()), "[A-Za-z0-9._-]{1,64}");
  if (e.salt().empty()) e.set_salt(e.id());
  if (e.salt().size() > kMaxName) {
    return Invalid("salt", absl::StrCat(e.salt().size(), " bytes"), "at most 64 bytes");
  }
  if (e.hash_version() == 0) e.set_hash_version(kMaxHashVersion);
  if (e.hash_version() > static_cast<uint32_t>(kMaxHashVersion)) {
    return Invalid("hash_version", absl::StrCat(e.hash_version()), "1 to 3, or 0");
  }
  if (e.unit() == Experiment::UNIT_UNSPECIFIED) e.set_unit(Experiment::SESSION);
  if (!Experiment::Unit_IsValid(e.unit())) {
    return Invalid("unit", absl::StrCat(e.unit()), "REQUEST, SESSION or USER");
  }
  if (!(e.shadow_share() >= 0 && e.shadow_share() <= 1)) {
    return Invalid("shadow_share", absl::StrCat(e.shadow_share()), "[0, 1]");
  }
  for (const absl::Status& status :
       {CompleteArms(&e, variants), CompleteRamp(&e), CompleteLayer(&e),
        CheckTargeting(e.targeting()), CheckMetrics(e), CompleteDecision(&e),
        CompleteGuardrails(&e)}) {
    if (!status.ok()) return status;
  }
  return e;
}

Definition DefinitionOf(const Experiment& message, uint32_t number,
                        std::span<const std::string> variants) {
  Definition out{.message = message, .number = number};
  ExperimentPlan& plan = out.plan;
  plan.id = message.id();
  plan.salt = DrawSalt(message);
  plan.hash_version = static_cast<int>(message.hash_version());
  plan.layer = message.layer();
  plan.slots = {message.slots_begin(), message.slots_end()};
  const int step = std::clamp(static_cast<int>(message.step()), 0, message.ramp_size() - 1);
  // What is promoted is for everybody.
  plan.coverage = message.state() == Experiment::PROMOTED ? 1 : message.ramp(step);
  const v1::ExperimentTargeting& targeting = message.targeting();
  plan.targeting.tenants.assign(targeting.tenants().begin(), targeting.tenants().end());
  constexpr uint64_t kMost = INT64_MAX;
  plan.targeting.min_prompt_tokens =
      static_cast<int64_t>(std::min(targeting.min_prompt_tokens(), kMost));
  if (targeting.has_max_prompt_tokens()) {
    plan.targeting.max_prompt_tokens =
        static_cast<int64_t>(std::min(targeting.max_prompt_tokens(), kMost));
  }
  for (const v1::ExperimentArm& arm : message.arms()) {
    plan.arms.push_back({arm.name(), arm.variant(), arm.weight()});
    const auto variant = std::find(variants.begin(), variants.end(), arm.variant());
    out.variants.push_back(static_cast<int>(variant - variants.begin()));
  }
  out.ranges = RangesOf(plan);
  out.control = ArmIndex(message, message.control());
  out.promoted = ArmIndex(message, message.promoted());
  return out;
}

absl::Status CheckKeepsArms(const Experiment& now, const Experiment& next) {
  if (now.state() == Experiment::DRAFT) return absl::OkStatus();
  const auto arms = [](const Experiment& e) {
    return absl::StrJoin(e.arms(), ";", [](std::string* out, const v1::ExperimentArm& arm) {
      absl::StrAppend(out, arm.name(), "=", arm.variant(), ":", arm.weight());
    });
  };
  const auto metrics = [](const Experiment& e) {
    return absl::StrJoin(e.metrics(), ";", [](std::string* out, const v1::FeedbackMetric& metric) {
      absl::StrAppend(out, metric.SerializeAsString());
    });
  };
  const std::pair<const char*, bool> kept[] = {
      {"arms", arms(now) == arms(next)},
      {"control", now.control() == next.control()},
      {"unit", now.unit() == next.unit()},
      {"salt", now.salt() == next.salt()},
      {"hash_version", now.hash_version() == next.hash_version()},
      {"layer", now.layer() == next.layer() && now.slots_begin() == next.slots_begin() &&
                    now.slots_end() == next.slots_end()},
      {"bucket_version", now.bucket_version() <= next.bucket_version()},
      // What would be decided, and by what, is said before there are results.
      {"decision", now.decision().SerializeAsString() == next.decision().SerializeAsString()},
      {"metrics", metrics(now) == metrics(next)}};
  for (const auto& [field, same] : kept) {
    if (!same) {
      return absl::FailedPreconditionError(
          absl::StrCat("experiment ", now.id(), " is ", StateName(now.state()), ": ", field,
                       " cannot change any more; make another experiment"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Experiment> AfterAction(const Experiment& message,
                                       const v1::ControlExperimentRequest& request) {
  using Request = v1::ControlExperimentRequest;
  if (request.reason().size() > kMaxReason) {
    return Invalid("reason", absl::StrCat(request.reason().size(), " bytes"), "at most 256 bytes");
  }
  Experiment e = message;
  const Experiment::State state = e.state();
  const bool live = state == Experiment::RUNNING || state == Experiment::PAUSED;
  switch (request.action()) {
    case Request::START:
      if (state != Experiment::DRAFT && state != Experiment::PAUSED) return NotIn(e, "START");
      e.set_state(Experiment::RUNNING);
      break;
    case Request::PAUSE:
      if (state != Experiment::RUNNING) return NotIn(e, "PAUSE");
      e.set_state(Experiment::PAUSED);
      break;
    case Request::RAMP: {
      if (state != Experiment::RUNNING) return NotIn(e, "RAMP");
      const auto step = NextStep(e, request);
      if (!step.ok()) return step.status();
      e.set_step(*step);
      break;
    }
    case Request::PROMOTE: {
      if (!live) return NotIn(e, "PROMOTE");
      const auto arm = ArmToPromote(e, request.arm());
      if (!arm.ok()) return arm.status();
      e.set_state(Experiment::PROMOTED);
      e.set_promoted(*arm);
      break;
    }
    case Request::ROLL_BACK:
    case Request::STOP:
      if (state == Experiment::DRAFT) return NotIn(e, Request::Action_Name(request.action()));
      e.set_state(request.action() == Request::STOP ? Experiment::STOPPED
                                                    : Experiment::ROLLED_BACK);
      e.clear_promoted();
      break;
    default:
      return Invalid("action", absl::StrCat(request.action()),
                     "START, PAUSE, RAMP, PROMOTE, ROLL_BACK or STOP");
  }
  e.set_state_reason(request.reason().empty()
                         ? absl::StrCat("asked for: ", Request::Action_Name(request.action()))
                         : PrintableName(request.reason()));
  return e;
}

}  // namespace vernier
