// The engine: one device thread that turns Requests into tokens, for every variant of one model.
//
// Thread-safe but for construction. See README.md for the owner of each value, the locks and the
// invariants.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/clock.h"
#include "engine/model/model.h"
#include "engine/request.h"
#include "engine/reservation.h"
#include "kernels/backend.h"

namespace vernier {

inline constexpr double kLeastWeight = 0.01, kMostWeight = 100;  // of a variant

struct EngineOptions {
  AdmissionLimits admission;
  int max_sequences = 64;  // that hold KV blocks at once
  int step_tokens = 256;   // rows of one step: decode rows first, then chunks of prompts
  // Rows of a pass whose logits are made, so the most sequences that draw a token in one. 0: one
  // for each of max_sequences, as far as step_tokens go.
  int max_logit_rows = 0;
  int64_t kv_blocks = 0;         // 0: from kv_bytes
  int64_t kv_bytes = 512 << 20;  // of the pool
  int64_t max_context = 0;       // 0: the model's, or what the pool holds; else at most the model's
  bool prefix_cache = true;      // prompts that begin alike are computed once
  std::vector<int64_t> guaranteed_blocks;  // by variant: of kv_blocks, whatever others use; none: 0
  std::vector<double> weights;  // by variant: shares of the device when all want it; none: 1
  absl::Duration inter_token_goal = absl::Milliseconds(100);  // see SchedulerLimits
  absl::Duration aging = absl::Seconds(30);
  int max_preemptions = 3;  // of one request; then RESOURCE_EXHAUSTED
  int planning_depth = 1;   // 1: plan after the step before is committed; 2: one step ahead
};

// What happened in a step, for metrics.
struct StepReport {
  int variant = 0;
  int prefill_rows = 0;
  int decode_rows = 0;
  int sequences = 0;
  absl::Duration duration;
};

// Told by the device thread, and of a request submitted after the engine's end by the thread that
// submits it; must not block. Names and labels of the metrics are server/'s.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  virtual void OnStep(const StepReport& report) = 0;
  virtual void OnPreempted(int variant, int64_t recomputed_tokens) = 0;
  // Every submitted request, exactly once, before its sink's OnFinish.
  virtual void OnFinished(const Request& request, const FinishEvent& event) = 0;
  // A row's logits held NaN or Inf: that request ends INTERNAL, its neighbours go on.
  virtual void OnCorrupted(int variant, RowStatus status) = 0;
  // The blocks of a request that ended early are free; `waited` since its control was set is at
  // most one step.
  virtual void OnReleased(int variant, absl::Duration since_end_seen) = 0;
};

struct VariantLoad {
  bool loaded = true;
  bool failed = false;
  int64_t waiting = 0;  // submitted, no row planned yet (or preempted)
  int64_t running = 0;
  int64_t queued_prompt_tokens = 0;
  int64_t kv_blocks = 0;  // with an owner
};

// A consistent picture, renewed by the device thread after each step.
struct EngineSnapshot {
  std::vector<VariantLoad> variants;
  int64_t kv_blocks_total = 0;
  int64_t kv_blocks_free = 0;    // without an owner
  int64_t kv_blocks_cached = 0;  // of those, what the prefix cache holds
  absl::Duration heartbeat;      // engine clock, written by the loop itself
  absl::Status device;           // not OK: the loop has ended, every request was told UNAVAILABLE
};

class Engine {
 public:
  // `model`, `backend`, `observer` (may be null) and `clock` must outlive the engine. It computes
  // with the variants of `model` that are loaded; LoadVariant and UnloadVariant change those.
  // Allocates the workspace, warms each variant once, starts the device thread. RESOURCE_EXHAUSTED
  // with bytes wanted when memory is short; INVALID_ARGUMENT for options that cannot hold one full
  // context.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(const EngineOptions& options, Model* model,
                                                        Backend* backend, EngineObserver* observer,
                                                        const Clock* clock);
  virtual ~Engine() = default;  // Stop()s

  // Room for `requests` requests of at most `prompt_tokens_bound` + `max_tokens` tokens each, all
  // or none. Errors as of AdmissionLedger.
  virtual absl::StatusOr<std::vector<Reservation>> Reserve(int64_t requests,
                                                           int64_t prompt_tokens_bound,
                                                           int64_t max_tokens,
                                                           const AdmissionScope& scope) = 0;
  // AdmissionLedger::CheckNotFull: for the door, before a call is read.
  virtual absl::Status CheckNotFull() const = 0;
  // Never blocks. Every submitted request gets exactly one OnFinish.
  virtual void Submit(std::unique_ptr<Request> request) = 0;
  virtual EngineSnapshot Snapshot() const = 0;
  virtual int64_t max_context() const = 0;

  // One of these at a time, never by the device thread. REQUIRES: 0 <= variant < the model's.
  //
  // Gives a variant that is not loaded its weights, between two steps; then requests for it are
  // admitted. FAILED_PRECONDITION when it is loaded, UNAVAILABLE when the engine has ended.
  virtual absl::Status LoadVariant(int variant, VariantWeights weights) = 0;
  // Requests for it are refused from now on; those before end as they would. Takes its weights when
  // none computes with them any more. CANCELLED, and it is served as before, when `waiting`
  // returned false (asked ten times a second); FAILED_PRECONDITION when it is not loaded.
  virtual absl::Status UnloadVariant(int variant, const std::function<bool()>& waiting) = 0;

  // From now on Reserve answers UNAVAILABLE; admitted requests go on.
  virtual void StartDrain() = 0;
  // Ends what still runs with kDrain, joins the device thread. Idempotent.
  virtual void Stop() = 0;
};

}  // namespace vernier
