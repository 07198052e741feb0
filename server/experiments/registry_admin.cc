// What administrators and collectors of feedback ask of the experiments.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/status_payload.h"
#include "server/experiments/feedback_reading.h"
#include "server/experiments/registry.h"
#include "server/experiments/reporting.h"

namespace vernier {
namespace {

using v1::Experiment;

constexpr int kMaxFailures = 16;
constexpr std::chrono::seconds kFiguresAge{1};

// What differs where anything but what the server itself sets does.
Experiment AsGiven(Experiment e) {
  e.clear_version();
  e.clear_state();
  e.clear_state_reason();
  e.clear_step();
  e.clear_promoted();
  return e;
}

}  // namespace

absl::StatusOr<Experiments::Live*> Experiments::Find(const std::string& id) {
  const auto found = experiments_.find(id);
  if (found == experiments_.end()) {
    return absl::NotFoundError(absl::StrCat("no experiment ", PrintableName(id)));
  }
  return &found->second;
}

// Two experiments that route must not share a part of a layer.
absl::Status Experiments::CheckLayer(const Experiment& message) {
  if (message.layer().empty() || message.state() != Experiment::RUNNING) return absl::OkStatus();
  for (const auto& [id, live] : experiments_) {
    const Experiment& other = live.definition->message;
    if (id != message.id() && live.definition->Routes() && other.layer() == message.layer() &&
        other.slots_begin() < message.slots_end() && message.slots_begin() < other.slots_end()) {
      return absl::FailedPreconditionError(
          absl::StrCat("experiment ", id, " has a part of [", message.slots_begin(), ", ",
                       message.slots_end(), ") of layer ", message.layer()));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Experiment> Experiments::Store(Experiment message) {
  if (absl::Status status = CheckLayer(message); !status.ok()) return status;
  message.set_version(message.version() + 1);
  const auto number = store_->Save(message, UnixMicros());
  if (!number.ok()) return number.status();
  if (*number > kMaxExperimentNumber) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the store has ", *number, " experiments, limit ", kMaxExperimentNumber));
  }
  Live& live = experiments_[message.id()];
  // Nothing has been added up for a draft, so what it adds up may still change.
  const bool draft =
      live.definition != nullptr && live.definition->message.state() == Experiment::DRAFT;
  Define(&live, message, *number);
  if (live.report == nullptr || draft) live.report = MakeReport(*live.definition);
  live.guardrails = MakeGuardrails(*live.definition);
  Publish();
  return message;
}

absl::StatusOr<Experiment> Experiments::Put(const Experiment& experiment) {
  auto next = CompleteExperiment(experiment, options_.variants);
  if (!next.ok()) return next.status();
  MutexLock lock(&mutex_);
  const auto found = experiments_.find(next->id());
  next->set_state(Experiment::DRAFT);
  next->clear_state_reason();
  next->clear_step();
  next->clear_promoted();
  uint64_t version = 0;
  if (found != experiments_.end()) {
    const Experiment& now = found->second.definition->message;
    version = now.version();
    next->set_state(now.state());
    next->set_state_reason(now.state_reason());
    next->set_step(std::min(now.step(), static_cast<uint32_t>(next->ramp_size() - 1)));
    next->set_promoted(now.promoted());
    if (absl::Status status = CheckKeepsArms(now, *next); !status.ok()) return status;
  }
  if (experiment.version() != version) {
    return absl::AbortedError(absl::StrCat("experiment ", next->id(), " has version ", version,
                                           ", not ", experiment.version(), ": read it again"));
  }
  return Store(*std::move(next));
}

absl::Status Experiments::CheckMayRamp(const Live& live,
                                       const v1::ControlExperimentRequest& request) {
  const Experiment& now = live.definition->message;
  const bool widens = !request.has_step() || request.step() > now.step();
  if (request.action() != v1::ControlExperimentRequest::RAMP || !widens || request.force()) {
    return absl::OkStatus();
  }
  const ExperimentReport report = live.report->Build();
  std::vector<GateResult> all = report.gates;
  const std::vector<GateResult> holds = HoldingGates(report);
  all.insert(all.end(), holds.begin(), holds.end());
  for (const GateResult& gate : all) {
    if (!gate.passed) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the ramp of ", now.id(), " is held: ", gate.reason, "; force goes on nevertheless"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Experiment> Experiments::Control(const v1::ControlExperimentRequest& request) {
  MutexLock lock(&mutex_);
  const auto live = Find(request.id());
  if (!live.ok()) return live.status();
  auto next = AfterAction((*live)->definition->message, request);
  if (!next.ok()) return next.status();
  if (absl::Status status = CheckMayRamp(**live, request); !status.ok()) return status;
  return Store(*std::move(next));
}

v1::ExperimentReport Experiments::MessageOf(const ReportBuilder& report,
                                            const Definition& definition) const {
  v1::ExperimentReport message = ReportMessage(report.Build());
  *message.mutable_experiment() = definition.message;
  message.set_log_dropped(static_cast<uint64_t>(log_->Dropped()));
  return message;
}

absl::StatusOr<v1::ExperimentReport> Experiments::Report(const std::string& id, bool rebuild) {
  std::unique_ptr<ReportBuilder> rebuilt;
  std::shared_ptr<const Definition> definition;
  {
    MutexLock lock(&mutex_);
    const auto live = Find(id);
    if (!live.ok()) return live.status();
    definition = (*live)->definition;
    if (!rebuild) return MessageOf(*(*live)->report, *definition);
    rebuilt = MakeReport(*definition);
    if (absl::Status status = Feed(rebuilt.get(), *definition); !status.ok()) return status;
  }
  if (absl::Status status = log_->Flush(); !status.ok()) return status;
  const auto reading = ReadExposures(absl::StrCat(options_.folder, "/exposures"),
                                     [&](const ExposureRecord& record) { rebuilt->Add(record); });
  if (!reading.ok()) return reading.status();
  return MessageOf(*rebuilt, *definition);
}

v1::ListExperimentsResponse Experiments::List() {
  MutexLock lock(&mutex_);
  v1::ListExperimentsResponse out;
  for (const auto& [id, live] : experiments_) *out.add_experiments() = live.definition->message;
  return out;
}

v1::ExplainAssignmentResponse Experiments::Explain(
    const v1::ExplainAssignmentRequest& request) const {
  v1::ExplainAssignmentResponse out;
  const auto tokens = std::min<uint64_t>(request.prompt_tokens(), INT64_MAX);
  const UnitFacts facts{request.tenant(), static_cast<int64_t>(tokens)};
  const std::shared_ptr<const Table> table = table_.load(std::memory_order_acquire);
  for (const auto& definition : *table) {
    const Assignment assignment = AssignmentOf(*definition, request.unit(), facts);
    auto* entry = out.add_entries();
    entry->set_experiment(definition->plan.id);
    entry->set_reason(AssignmentReasonName(assignment.reason));
    if (assignment.bucket.has_value()) entry->set_bucket(*assignment.bucket);
    if (assignment.arm < 0) continue;
    const bool promoted = definition->promoted >= 0;
    if (promoted) entry->set_reason("promoted");
    const Arm& arm =
        definition->plan
            .arms[static_cast<size_t>(promoted ? definition->promoted : assignment.arm)];
    entry->set_arm(arm.name);
    entry->set_variant(arm.variant);
    if (out.variant().empty()) out.set_variant(arm.variant);
  }
  if (out.variant().empty() && !options_.variants.empty()) out.set_variant(options_.variants[0]);
  return out;
}

absl::Status Experiments::Configure(const Experiment& experiment) {
  Experiment given = experiment;
  bool there = false;
  {
    MutexLock lock(&mutex_);
    const auto found = experiments_.find(given.id());
    there = found != experiments_.end();
    if (there) {
      const auto next = CompleteExperiment(given, options_.variants);
      if (!next.ok()) return next.status();
      const Experiment& now = found->second.definition->message;
      if (AsGiven(*next).SerializeAsString() == AsGiven(now).SerializeAsString()) {
        return absl::OkStatus();
      }
      given.set_version(now.version());
    }
  }
  if (!there) given.set_version(0);
  if (const auto put = Put(given); !put.ok()) return put.status();
  if (there || experiment.state() != Experiment::RUNNING) return absl::OkStatus();
  v1::ControlExperimentRequest start;
  start.set_id(given.id());
  start.set_action(v1::ControlExperimentRequest::START);
  start.set_reason("the configuration starts it");
  return Control(start).status();
}

// ---- Feedback ----

absl::StatusOr<FeedbackTaken> Experiments::KeepFeedback(const v1::FeedbackEvent& event,
                                                        v1::FeedbackResponse* response) {
  const auto id = ReadExposureId("exposure_id", event.exposure_id());
  if (!id.ok()) return id.status();
  const auto live = by_number_.find(NumberOf(*id));
  if (live == by_number_.end()) {
    return absl::NotFoundError("no experiment here gave out that exposure_id");
  }
  const auto feedback = ReadFeedback(event, *id, *live->second->definition, UnixMicros());
  if (!feedback.ok()) return feedback.status();
  const auto saved = store_->SaveFeedback(*feedback);
  if (!saved.ok() || *saved == FeedbackTaken::kDuplicate) return saved;
  ReportBuilder& report = *live->second->report;
  if (!report.Knows(*id)) {
    response->set_orphans(response->orphans() + 1);
    ++feedback_[2];
  }
  report.AddFeedback(ValueOf(*live->second->definition, *feedback));
  return saved;
}

void Experiments::TakeFeedback(const v1::FeedbackEvent& event, v1::FeedbackResponse* response) {
  const auto count = response->accepted() + response->duplicates() + response->refused();
  MutexLock lock(&mutex_);
  const auto taken = KeepFeedback(event, response);
  if (!taken.ok()) {
    ++feedback_[3];
    response->set_refused(response->refused() + 1);
    if (response->failures_size() < kMaxFailures) {
      auto* failure = response->add_failures();
      failure->set_index(count);
      failure->set_reason(std::string(taken.status().message()));
    }
  } else if (*taken == FeedbackTaken::kDuplicate) {
    ++feedback_[1];
    response->set_duplicates(response->duplicates() + 1);
  } else {
    ++feedback_[0];
    response->set_accepted(response->accepted() + 1);
  }
}

// ---- Figures ----

std::shared_ptr<const ExperimentsFigures> Experiments::Figures() {
  const int64_t dropped = log_->Dropped();
  const auto now = std::chrono::steady_clock::now();
  MutexLock lock(&mutex_);
  if (figures_ != nullptr && now - figures_at_ < kFiguresAge) return figures_;
  auto out = std::make_shared<ExperimentsFigures>();
  out->log_dropped = dropped;
  for (const auto& [id, live] : experiments_) {
    out->experiments.push_back({.experiment = live.definition,
                                .exposures = live.exposures,
                                .rollbacks = live.rollbacks,
                                .report = live.report->Build()});
  }
  out->feedback_accepted = feedback_[0];
  out->feedback_duplicates = feedback_[1];
  out->feedback_orphans = feedback_[2];
  out->feedback_refused = feedback_[3];
  figures_at_ = now;
  figures_ = std::move(out);
  return figures_;
}

absl::Status Experiments::Flush() { return log_->Flush(); }

}  // namespace vernier
