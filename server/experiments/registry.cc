#include "server/experiments/registry.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/status_payload.h"
#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "server/experiments/feedback_reading.h"
#include "server/experiments/reporting.h"
#include "server/experiments/unit_key.h"

namespace vernier {
namespace {

using v1::Experiment;

std::mt19937_64& Random() {
  static thread_local std::mt19937_64 random{uint64_t{std::random_device{}()} << 32 |
                                             std::random_device{}()};
  return random;
}

uint32_t Micros(absl::Duration duration) {
  const int64_t micros = absl::ToInt64Microseconds(duration);
  return static_cast<uint32_t>(std::clamp<int64_t>(micros, 0, UINT32_MAX));
}

}  // namespace

std::string Exposure::id() const { return logged ? ExposureIdText(record.request_id) : ""; }

int64_t Experiments::UnixMicros() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
}

// ---- Start ----

absl::StatusOr<std::unique_ptr<Experiments>> Experiments::Open(const ExperimentsOptions& options) {
  auto experiments = std::unique_ptr<Experiments>(new Experiments(options));
  if (absl::Status status = experiments->Start(); !status.ok()) return status;
  return experiments;
}

Experiments::~Experiments() { log_.reset(); }

absl::Status Experiments::Start() {
  std::error_code error;
  std::filesystem::create_directories(options_.folder, error);
  if (error) {
    return absl::UnavailableError(
        absl::StrCat("experiments.folder ", options_.folder, ": ", error.message()));
  }
  auto key = ReadUnitKey(absl::StrCat(options_.folder, "/unit_key"));
  if (!key.ok()) return key.status();
  hash_key_ = *key;
  {
    MutexLock lock(&mutex_);
    auto store = ExperimentStore::Open(absl::StrCat(options_.folder, "/experiments.sqlite"));
    if (!store.ok()) return store.status();
    store_ = *std::move(store);
    auto stored = store_->Experiments();
    if (!stored.ok()) return stored.status();
    for (const ExperimentStore::Stored& one : *stored) {
      // A variant may have left the configuration since.
      auto message = CompleteExperiment(one.message, options_.variants);
      if (!message.ok()) {
        ::vernier::Log(LogLevel::kWarning,
                       absl::StrCat("experiment ", one.message.id(),
                                    " is left out: ", message.status().message()));
        continue;
      }
      Live& live = experiments_[one.message.id()];
      Define(&live, *message, one.number);
      live.report = MakeReport(*live.definition);
    }
  }
  if (absl::Status status = ReplayLog(); !status.ok()) return status;
  ExposureLogOptions log = options_.log;
  log.folder = absl::StrCat(options_.folder, "/exposures");
  log.observer = [this](std::span<const ExposureRecord> records) { OnRecords(records); };
  auto opened = ExposureLog::Open(log);
  if (!opened.ok()) return opened.status();
  log_ = *std::move(opened);
  MutexLock lock(&mutex_);
  for (auto& [id, live] : experiments_) {
    live.guardrails = MakeGuardrails(*live.definition);
    if (absl::Status status = Feed(live.report.get(), *live.definition); !status.ok())
      return status;
  }
  Publish();
  return absl::OkStatus();
}

absl::Status Experiments::ReplayLog() {
  MutexLock lock(&mutex_);
  const auto reading = ReadExposures(absl::StrCat(options_.folder, "/exposures"),
                                     [this](const ExposureRecord& record)
                                         ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { Add(record); });
  if (absl::IsNotFound(reading.status())) return absl::OkStatus();
  return reading.status();
}

absl::Status Experiments::Feed(ReportBuilder* report, const Definition& definition) {
  return store_->EachFeedback(definition.number, [&](const StoredFeedback& feedback) {
    report->AddFeedback(ValueOf(definition, feedback));
  });
}

// ---- Requests ----

Assignment Experiments::AssignmentOf(const Definition& definition, absl::string_view unit,
                                     const UnitFacts& facts) const {
  return Assign(definition.plan, definition.ranges, unit, facts, {});
}

ExposureRecord Experiments::BoundRecord(const Definition& definition, const RouteRequest& request,
                                        const Assignment& assignment) const {
  const auto arm = static_cast<size_t>(assignment.arm);
  ExposureRecord record;
  record.kind = ExposureKind::kBound;
  const int64_t now = UnixMicros();
  record.unix_micros = static_cast<uint64_t>(now);
  record.request_id = MakeExposureId(now, definition.number, Random()());
  if (!request.routing_key.empty()) {
    record.session_hash = UnitHash(hash_key_, request.routing_key);
    if (definition.message.unit() != Experiment::REQUEST) record.unit_hash = record.session_hash;
  }
  record.model_digest = options_.model_digest;
  record.server_build = options_.server_build;
  record.experiment = definition.number;
  record.experiment_version = static_cast<uint32_t>(definition.message.version());
  record.arm = static_cast<uint8_t>(arm);
  record.assigned = static_cast<uint8_t>(definition.variants[arm]);
  record.bucket = assignment.bucket.value_or(0);
  record.prompt_tokens =
      static_cast<uint32_t>(std::clamp<int64_t>(request.prompt_tokens, 0, UINT32_MAX));
  return record;
}

uint64_t Experiments::QuantDigest(int variant) const {
  const auto index = static_cast<size_t>(variant);
  return index < options_.quant_digests.size() ? options_.quant_digests[index] : 0;
}

Exposure Experiments::Bind(const RouteRequest& request) {
  Exposure exposure{.variant = request.variant};
  const std::shared_ptr<const Table> table = table_.load(std::memory_order_acquire);
  const UnitFacts facts{request.tenant, request.prompt_tokens};
  for (const auto& definition : *table) {
    const bool by_key =
        definition->message.unit() != Experiment::REQUEST && !request.routing_key.empty();
    // Who has no key is drawn for this request alone.
    const std::string own = by_key ? "" : absl::StrCat(absl::Hex(Random()(), absl::kZeroPad16));
    const Assignment assignment =
        AssignmentOf(*definition, by_key ? request.routing_key : own, facts);
    if (assignment.arm < 0) continue;
    exposure.experiment = definition;
    const bool promoted = definition->promoted >= 0;
    const int arm = promoted ? definition->promoted : assignment.arm;
    const int assigned = definition->variants[static_cast<size_t>(arm)];
    const bool loaded = options_.loaded(assigned);
    if (!request.named) {
      exposure.arm = arm;
      if (loaded) exposure.variant = assigned;
    }
    if (promoted) return exposure;  // decided: nothing more is to be learnt
    exposure.record = BoundRecord(*definition, request, assignment);
    exposure.record.served = static_cast<uint8_t>(exposure.variant);
    exposure.record.reason = request.named ? ServedReason::kForced
                             : loaded      ? ServedReason::kAssigned
                                           : ServedReason::kFallbackError;
    exposure.record.quant_digest = QuantDigest(exposure.variant);
    exposure.logged = true;
    log_->Append(exposure.record);
    return exposure;
  }
  return exposure;
}

void Experiments::End(const Exposure& exposure, const Outcome& outcome) {
  ExposureRecord record = exposure.record;
  record.kind = ExposureKind::kDone;
  record.output_tokens =
      static_cast<uint32_t>(std::clamp<int64_t>(outcome.output_tokens, 0, UINT32_MAX));
  record.queue_micros = Micros(outcome.queue);
  record.first_token_micros = Micros(outcome.first_token);
  record.token_p50_micros = Micros(outcome.token_p50);
  record.token_p99_micros = Micros(outcome.token_p99);
  record.total_micros = Micros(outcome.total);
  record.mean_logprob = outcome.mean_logprob;
  record.loop_rate = outcome.loop_rate;
  record.finish = outcome.finish;
  record.grpc_status = static_cast<uint8_t>(outcome.code);
  record.not_finite = outcome.not_finite ? 1 : 0;
  Log(record);
}

bool Experiments::WantsShadow(const Exposure& exposure) const {
  const Definition& definition = *exposure.experiment;
  if (!exposure.logged || exposure.arm != definition.control) return false;
  const double share = definition.message.shadow_share();
  return share > 0 && std::uniform_real_distribution<double>()(Random()) < share;
}

ExposureRecord Experiments::BindShadow(const Exposure& exposure, int arm) {
  ExposureRecord record = exposure.record;
  record.kind = ExposureKind::kBound;
  record.reason = ServedReason::kShadow;
  record.arm = static_cast<uint8_t>(arm);
  const int variant = exposure.experiment->variants[static_cast<size_t>(arm)];
  record.assigned = record.served = static_cast<uint8_t>(variant);
  record.quant_digest = QuantDigest(variant);
  record.reference_arm = static_cast<uint8_t>(exposure.arm);
  Log(record);
  return record;
}

void Experiments::Log(const ExposureRecord& record) {
  ExposureRecord now = record;
  now.unix_micros = static_cast<uint64_t>(UnixMicros());
  log_->Append(now);
}

// ---- What the log's thread does ----

void Experiments::OnRecords(std::span<const ExposureRecord> records) {
  MutexLock lock(&mutex_);
  for (const ExposureRecord& record : records) {
    Live* live = Add(record);
    if (live == nullptr || live->guardrails == nullptr ||
        live->definition->message.state() != Experiment::RUNNING) {
      continue;
    }
    const std::optional<Crossing> crossing = live->guardrails->Add(record);
    if (crossing.has_value()) RollBack(live, *crossing);
  }
}

Experiments::Live* Experiments::Add(const ExposureRecord& record) {
  const auto found = by_number_.find(record.experiment);
  if (found == by_number_.end()) return nullptr;
  Live& live = *found->second;
  live.report->Add(record);
  if (record.kind == ExposureKind::kBound) {
    ++live.exposures[{record.arm, record.served, record.reason}];
  }
  return &live;
}

void Experiments::Define(Live* live, const Experiment& message, uint32_t number) {
  live->definition =
      std::make_shared<const Definition>(DefinitionOf(message, number, options_.variants));
  by_number_[number] = live;
}

void Experiments::RollBack(Live* live, const Crossing& crossing) {
  Experiment message = live->definition->message;
  message.set_state(Experiment::ROLLED_BACK);
  message.set_state_reason(crossing.reason);
  message.set_version(message.version() + 1);
  Define(live, message, live->definition->number);
  ++live->rollbacks[crossing.guardrail];
  Publish();  // first: from here on nobody gets the arm
  ::vernier::Log(LogLevel::kWarning,
                 absl::StrCat("experiment ", message.id(), " is rolled back: ", crossing.reason));
  if (const auto saved = store_->Save(message, UnixMicros()); !saved.ok()) {
    ::vernier::Log(LogLevel::kError, std::string(saved.status().message()));
  }
}

void Experiments::Publish() {
  auto table = std::make_shared<Table>();
  for (const auto& [id, live] : experiments_) {
    if (live.definition->Routes()) table->push_back(live.definition);
  }
  table_.store(std::move(table), std::memory_order_release);
}

}  // namespace vernier
