#include "engine/engine.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/engine_limits.h"
#include "engine/model/forward.h"
#include "engine/scheduler.h"
#include "engine/status_payload.h"
#include "engine/step_runner.h"
#include "kernels/base/log.h"
#include "kernels/base/mutex.h"
#include "kernels/base/thread_role.h"

namespace vernier {
namespace {

// An idle loop still shows that it lives.
constexpr auto kHeartbeat = std::chrono::milliseconds(500);

// How often who waits for weights to be free is asked whether to go on.
constexpr auto kExchangeTick = std::chrono::milliseconds(100);

absl::Status Unavailable() { return absl::UnavailableError("the engine has stopped"); }

AdmissionLimits AdmissionOf(const EngineOptions& options) {
  AdmissionLimits limits = options.admission;
  limits.served_at_once = options.max_sequences;
  return limits;
}

class DeviceEngine final : public Engine {
 public:
  DeviceEngine(const EngineOptions& options, const SchedulerLimits& limits, Model* model,
               Backend* backend, EngineObserver* observer, const Clock* clock)
      : limits_(limits),
        planning_depth_(options.planning_depth),
        model_(model),
        backend_(backend),
        observer_(observer),
        clock_(clock),
        ledger_(std::make_shared<AdmissionLedger>(AdmissionOf(options))),
        scheduler_(limits) {
    for (size_t i = 0; i < model->variants.size(); ++i) {
      if (!model->variants[i].loaded) ledger_->SetDoor(static_cast<int>(i), NotLoaded(i));
    }
    PublishSnapshot();
    thread_ = std::thread([this] {
      SetThreadRole(ThreadRole::kComputes, "vernier-engine");
      DeviceLoop();
    });
  }
  ~DeviceEngine() override { Stop(); }

  absl::StatusOr<std::vector<Reservation>> Reserve(int64_t requests, int64_t prompt_tokens_bound,
                                                   int64_t max_tokens,
                                                   const AdmissionScope& scope) override {
    // What exceeds the context is refused later by its exact length; here it
    // must only not overflow.
    const int64_t prompt = std::clamp<int64_t>(prompt_tokens_bound, 0, limits_.max_context);
    const int64_t output = std::clamp<int64_t>(max_tokens, 0, limits_.max_context);
    return ledger_->Reserve(requests, std::min(prompt + output, limits_.max_context), scope);
  }

  absl::Status CheckNotFull() const override { return ledger_->CheckNotFull(); }

  void Submit(std::unique_ptr<Request> request) override {
    const absl::Duration now = clock_->Now();
    {
      MutexLock lock(&inbox_mutex_);
      if (!closed_) {
        inbox_.push_back({std::move(request), now});
        inbox_changed_.NotifyOne();
        return;
      }
    }
    // The device thread is gone: the caller's thread tells the end.
    Sequence sequence(std::move(request), 0, now, {});
    sequence.end = SequenceEnd{FinishReason::kDrain, -1, Unavailable()};
    FinishSequence(&sequence, now, observer_);
  }

  EngineSnapshot Snapshot() const override {
    EngineSnapshot snapshot;
    {
      MutexLock lock(&snapshot_mutex_);
      snapshot = snapshot_;
    }
    MutexLock lock(&inbox_mutex_);
    for (const Submitted& submitted : inbox_) {
      const int variant = submitted.request->variant;
      if (variant < 0 || variant >= static_cast<int>(snapshot.variants.size())) continue;
      snapshot.variants[static_cast<size_t>(variant)].waiting += 1;
      snapshot.variants[static_cast<size_t>(variant)].queued_prompt_tokens +=
          static_cast<int64_t>(submitted.request->prompt.size());
    }
    return snapshot;
  }

  int64_t max_context() const override { return limits_.max_context; }

  absl::Status LoadVariant(int variant, VariantWeights weights) override;
  absl::Status UnloadVariant(int variant, const std::function<bool()>& waiting) override;

  void StartDrain() override { ledger_->StartDrain(); }

  void Stop() override {
    {
      MutexLock lock(&inbox_mutex_);
      stopping_ = true;
      inbox_changed_.NotifyAll();
    }
    MutexLock lock(&join_mutex_);
    if (thread_.joinable()) thread_.join();
  }

 private:
  struct Submitted {
    std::unique_ptr<Request> request;
    absl::Duration time;
  };
  // What a variant computes with, for what it computed with; done between two steps.
  struct Exchange {
    int variant = 0;
    VariantWeights* weights = nullptr;
    bool done = false;
  };

  absl::Status NotLoaded(size_t variant) const;
  bool ExchangeWeights(Exchange* exchange, const std::function<bool()>& waiting);
  void TryExchange();
  bool Computes(int variant) const;
  void DeviceLoop();
  bool TakeInbox(bool may_wait, std::vector<Submitted>* taken);
  absl::Status Check(const Request& request) const;
  void Accept(Submitted submitted);
  absl::Status RunStep();
  absl::Status CompleteRunning();
  void FinishEnded();
  void Close(const SequenceEnd& end, const absl::Status& device);
  void PublishSnapshot();

  const SchedulerLimits limits_;
  const int planning_depth_;
  Model* const model_;  // its VariantWeights are the device thread's
  Backend* const backend_;
  EngineObserver* const observer_;
  const Clock* const clock_;
  const std::shared_ptr<AdmissionLedger> ledger_;

  mutable Mutex inbox_mutex_;
  CondVar inbox_changed_;
  std::vector<Submitted> inbox_ ABSL_GUARDED_BY(inbox_mutex_);
  bool stopping_ ABSL_GUARDED_BY(inbox_mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(inbox_mutex_) = false;
  Exchange* exchange_ ABSL_GUARDED_BY(inbox_mutex_) = nullptr;  // of who waits for it
  CondVar exchanged_;

  mutable Mutex snapshot_mutex_;
  EngineSnapshot snapshot_ ABSL_GUARDED_BY(snapshot_mutex_);

  // The device thread's own.
  Scheduler scheduler_;
  Step steps_[2];
  Step* planned_ = nullptr;  // and not launched
  Step* running_ = nullptr;  // launched and not committed
  uint64_t arrivals_ = 0;

  Mutex join_mutex_;
  std::thread thread_ ABSL_GUARDED_BY(join_mutex_);
};

void DeviceEngine::DeviceLoop() {
  std::vector<Submitted> taken;
  while (TakeInbox(/*may_wait=*/scheduler_.idle() && running_ == nullptr, &taken)) {
    for (Submitted& submitted : taken) Accept(std::move(submitted));
    if (!taken.empty()) PublishSnapshot();  // a long step must not hide them
    TryExchange();
    if (absl::Status status = RunStep(); !status.ok()) {
      Log(LogLevel::kError, absl::StrCat("the device failed: ", status.message()));
      return Close({FinishReason::kError, -1, absl::UnavailableError("the engine is lost")},
                   status);
    }
    PublishSnapshot();
  }
  for (Submitted& submitted : taken) Accept(std::move(submitted));
  Close({FinishReason::kDrain, -1, absl::UnavailableError("the server is shutting down")},
        absl::OkStatus());
}

// False when the engine is to stop; `taken` then holds the last submissions.
bool DeviceEngine::TakeInbox(bool may_wait, std::vector<Submitted>* taken) {
  taken->clear();
  MutexLock lock(&inbox_mutex_);
  if (may_wait && inbox_.empty() && !stopping_ && exchange_ == nullptr) {
    inbox_changed_.WaitFor(&inbox_mutex_, kHeartbeat);
  }
  taken->swap(inbox_);
  return !stopping_;
}

// The front end has checked all this with better words; here it must only never
// reach the loop.
absl::Status DeviceEngine::Check(const Request& request) const {
  const auto check = [](const char* field, int64_t value, int64_t low, int64_t high) {
    if (value >= low && value <= high) return absl::OkStatus();
    return InvalidField({field, absl::StrCat(value), absl::StrCat("in [", low, ", ", high, "]")});
  };
  const int64_t variants = static_cast<int64_t>(model_->variants.size());
  const int64_t prompt = static_cast<int64_t>(request.prompt.size());
  const int64_t context = limits_.max_context;
  absl::Status status = check("variant", request.variant, 0, variants - 1);
  if (request.score.has_value()) {
    status.Update(check("reference_variant", request.score->reference_variant, -1, variants - 1));
    status.Update(check("prompt", prompt, 1, context));
  } else {
    const int64_t max_tokens = request.sampling.max_tokens;
    status.Update(check("sampling.max_tokens", max_tokens, 1, context));
    if (status.ok()) status = check("prompt", prompt, 1, context - max_tokens);
  }
  const int reference = request.score.has_value() ? request.score->reference_variant : -1;
  for (const int variant : {request.variant, reference}) {
    if (!status.ok() || variant < 0) continue;
    if (model_->variants[static_cast<size_t>(variant)].layers.empty()) {
      status = NotLoaded(static_cast<size_t>(variant));
    }
  }
  for (const int32_t id : request.prompt) {
    if (!status.ok()) break;
    status = check("token_ids", id, 0, model_->config.vocab - 1);
  }
  return status;
}

void DeviceEngine::Accept(Submitted submitted) {
  const absl::Status status = Check(*submitted.request);
  auto sequence = std::make_unique<Sequence>(std::move(submitted.request), arrivals_++,
                                             submitted.time, model_->config.end_tokens);
  if (!status.ok()) {
    sequence->end = SequenceEnd{FinishReason::kError, -1, status};
    return FinishSequence(sequence.get(), clock_->Now(), observer_);
  }
  scheduler_.Add(std::move(sequence));
}

absl::Status DeviceEngine::RunStep() {
  Step* next = running_ == &steps_[0] ? &steps_[1] : &steps_[0];
  // With depth 2 the plan is made while the step before still runs; with depth
  // 1 nothing runs here.
  scheduler_.Plan(clock_->Now(), &next->plan);
  backend_->Forget(next->plan.stale);
  if (observer_ != nullptr) {
    for (const Preemption& preemption : scheduler_.preemptions()) {
      observer_->OnPreempted(preemption.variant, preemption.recomputed_tokens);
    }
  }
  planned_ = next->plan.empty() ? nullptr : next;
  FinishEnded();
  if (running_ != nullptr) {
    if (absl::Status status = CompleteRunning(); !status.ok()) return status;
  }
  if (planned_ == nullptr) return absl::OkStatus();
  running_ = std::exchange(planned_, nullptr);
  running_->started = clock_->Now();
  LaunchStep(*model_, backend_, running_);
  return planning_depth_ > 1 ? absl::OkStatus() : CompleteRunning();
}

absl::Status DeviceEngine::CompleteRunning() {
  if (absl::Status status = backend_->Synchronize(); !status.ok()) return status;
  const Step& step = *std::exchange(running_, nullptr);
  const absl::Duration now = clock_->Now();
  DeliverStep(step, now, observer_);
  if (observer_ != nullptr) {
    const int decode_rows = static_cast<int>(step.plan.DecodeRows());
    observer_->OnStep({.variant = step.plan.variant,
                       .prefill_rows = static_cast<int>(step.plan.Tokens()) - decode_rows,
                       .decode_rows = decode_rows,
                       .sequences = static_cast<int>(step.plan.rows.size()),
                       .duration = now - step.started});
  }
  scheduler_.Observe(step.plan, now - step.started);
  scheduler_.Commit(step.plan);
  FinishEnded();
  return absl::OkStatus();
}

void DeviceEngine::FinishEnded() {
  std::vector<std::unique_ptr<Sequence>> ended = scheduler_.TakeEnded();
  if (ended.empty()) return;
  PublishSnapshot();  // whoever hears of the end sees the blocks free
  const absl::Duration now = clock_->Now();
  for (const auto& sequence : ended) {
    ledger_->OnFinished(static_cast<int64_t>(sequence->tokens.size()), now);
    FinishSequence(sequence.get(), now, observer_);
  }
}

void DeviceEngine::Close(const SequenceEnd& end, const absl::Status& device) {
  scheduler_.EndAll(end);  // first: the results of what still runs are given up
  if (running_ != nullptr && device.ok()) (void)backend_->Synchronize();
  for (Step** step : {&running_, &planned_}) {
    if (*step != nullptr) scheduler_.Commit(std::exchange(*step, nullptr)->plan);
  }
  std::vector<Submitted> late;
  {
    MutexLock lock(&inbox_mutex_);
    closed_ = true;
    late.swap(inbox_);
  }
  exchanged_.NotifyAll();
  for (Submitted& submitted : late) Accept(std::move(submitted));
  scheduler_.EndAll(end);
  {
    MutexLock lock(&snapshot_mutex_);
    snapshot_.device = device;
  }
  FinishEnded();
  PublishSnapshot();
}

absl::Status DeviceEngine::NotLoaded(size_t variant) const {
  const Variant& held = model_->variants[variant];
  return absl::FailedPreconditionError(absl::StrCat(
      "variant ", held.name, held.failed ? " failed its self-test" : " is not loaded"));
}

bool DeviceEngine::Computes(int variant) const {
  for (const auto& sequence : scheduler_.sequences()) {
    const Request& request = *sequence->request;
    if (request.variant == variant ||
        (request.score.has_value() && request.score->reference_variant == variant)) {
      return true;
    }
  }
  return false;
}

// A step in flight may go on: it is another variant's.
void DeviceEngine::TryExchange() {
  MutexLock lock(&inbox_mutex_);
  if (exchange_ == nullptr || Computes(exchange_->variant)) return;
  VariantWeights& held = model_->variants[static_cast<size_t>(exchange_->variant)];
  std::swap(held, *exchange_->weights);
  std::exchange(exchange_, nullptr)->done = true;
  exchanged_.NotifyAll();
}

// False when the engine has ended, or `waiting` said so first.
bool DeviceEngine::ExchangeWeights(Exchange* exchange, const std::function<bool()>& waiting) {
  {
    MutexLock lock(&inbox_mutex_);
    exchange_ = exchange;
    inbox_changed_.NotifyOne();
  }
  bool wanted = true;
  while (true) {
    {
      MutexLock lock(&inbox_mutex_);
      if (!exchange->done && !closed_ && wanted) exchanged_.WaitFor(&inbox_mutex_, kExchangeTick);
      if (exchange->done) return true;
      if (closed_ || !wanted) {
        exchange_ = nullptr;
        return false;
      }
    }
    wanted = waiting == nullptr || waiting();
  }
}

absl::Status DeviceEngine::LoadVariant(int variant, VariantWeights weights) {
  Variant& held = model_->variants[static_cast<size_t>(variant)];
  if (held.loaded) {
    return absl::FailedPreconditionError(absl::StrCat("variant ", held.name, " is loaded"));
  }
  Exchange exchange{.variant = variant, .weights = &weights};
  if (!ExchangeWeights(&exchange, nullptr)) return Unavailable();
  held.loaded = true;
  ledger_->SetDoor(variant, absl::OkStatus());
  return absl::OkStatus();
}

absl::Status DeviceEngine::UnloadVariant(int variant, const std::function<bool()>& waiting) {
  Variant& held = model_->variants[static_cast<size_t>(variant)];
  if (!held.loaded) return NotLoaded(static_cast<size_t>(variant));
  held.loaded = false;
  ledger_->SetDoor(variant, NotLoaded(static_cast<size_t>(variant)));
  VariantWeights none;
  Exchange exchange{.variant = variant, .weights = &none};
  if (ExchangeWeights(&exchange, waiting)) return absl::OkStatus();
  held.loaded = true;
  ledger_->SetDoor(variant, absl::OkStatus());
  return absl::CancelledError(absl::StrCat("variant ", held.name, " is still in use"));
}

void DeviceEngine::PublishSnapshot() {
  EngineSnapshot snapshot;
  snapshot.variants.resize(model_->variants.size());
  for (const auto& sequence : scheduler_.sequences()) {
    VariantLoad& load = snapshot.variants[static_cast<size_t>(sequence->request->variant)];
    (sequence->Running() ? load.running : load.waiting) += 1;
    if (sequence->Generated() == 0) {
      load.queued_prompt_tokens +=
          std::max<int64_t>(0, sequence->prompt_tokens - sequence->computed);
    }
  }
  const KvPool& pool = scheduler_.pool();
  for (size_t variant = 0; variant < snapshot.variants.size(); ++variant) {
    snapshot.variants[variant].loaded = model_->variants[variant].loaded;
    snapshot.variants[variant].failed = model_->variants[variant].failed;
    snapshot.variants[variant].kv_blocks = pool.used(static_cast<int>(variant));
  }
  snapshot.kv_blocks_total = pool.total();
  snapshot.kv_blocks_free = pool.free();
  snapshot.kv_blocks_cached = pool.cached();
  snapshot.heartbeat = clock_->Now();
  MutexLock lock(&snapshot_mutex_);
  snapshot.device = snapshot_.device;
  snapshot_ = std::move(snapshot);
}

// One row through every variant, so that the first request finds caches and
// pages as the thousandth does.
absl::Status WarmUp(const Model& model, Backend* backend) {
  const int32_t zero[] = {0};
  const SequenceRows rows[] = {{.first_row = 0, .num_rows = 1, .first_block = 0, .num_blocks = 1}};
  const Batch batch{.num_rows = 1,
                    .ids = zero,
                    .positions = zero,
                    .slots = zero,
                    .sequences = rows,
                    .blocks = zero,
                    .logit_rows = zero};
  for (size_t variant = 0; variant < model.variants.size(); ++variant) {
    if (!model.variants[variant].loaded) continue;
    const int index = static_cast<int>(variant);
    backend->Execute({.variant = index, .num_rows = 1}, batch,
                     [&] { ForwardPass(model, index, 0, backend); });
    if (absl::Status status = backend->Synchronize(); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options, Model* model,
                                                       Backend* backend, EngineObserver* observer,
                                                       const Clock* clock) {
  absl::StatusOr<SchedulerLimits> limits = LimitsFor(options, *model);
  if (!limits.ok()) return limits.status();
  const WorkspacePlan plan = PlanWorkspace(*model, limits->step_tokens, limits->max_logit_rows,
                                           limits->max_context, limits->kv_blocks);
  if (absl::Status status = backend->CreateWorkspace(plan); !status.ok()) return status;
  if (absl::Status status = WarmUp(*model, backend); !status.ok()) return status;
  return std::make_unique<DeviceEngine>(options, *limits, model, backend, observer, clock);
}

}  // namespace vernier
