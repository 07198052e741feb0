// Decides what each step computes: pure values in and out, no clock, device,
// lock or log.
//
// Iteration-level batching with chunked prefill. A step serves one group of
// sequences: those of one class and variant, or the paired scores of one
// (variant, reference). Among groups that can run, the one whose steps cost the
// least so far is next, and one that could not run is owed nothing for it
// (start-time fair queuing; Goyal, Vin and Cheng 1996). Within a group decode
// rows come first, then chunks of prompts, oldest first. The low class gets a
// step only when no sequence of the normal class can use it. Cache blocks for a
// prompt are taken when it starts to run; when a growing sequence finds none,
// the newest of the lowest class gives up its blocks and is recomputed later (as
// vLLM v1 does), with what it had drawn as part of its prompt. Full blocks whose
// step has completed can be found by later sequences with the same beginning,
// which compute what is behind it alone.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "engine/kv_pool.h"
#include "engine/sequence.h"

namespace vernier {

struct SchedulerLimits {
  int64_t kv_blocks = 0;
  int64_t max_context = 0;
  int64_t step_tokens = 256;    // rows of a pass
  int64_t max_logit_rows = 64;  // of a pass
  int max_sequences = 64;       // that hold blocks
  int max_preemptions = 3;
  bool prefix_cache = true;
  std::vector<int64_t> guaranteed_blocks;  // by variant, see KvPool
};

// Consecutive positions of one sequence in a pass.
struct PlannedRows {
  Sequence* sequence = nullptr;
  int64_t first = 0;  // position
  int32_t count = 0;
  int32_t scored_from = 0;  // rows [scored_from, scored_until) of these have their logits scored
  int32_t scored_until = 0;
  bool draws = false;  // the last row's logits give a token
  int64_t LogitRows() const { return scored_until - scored_from + (draws ? 1 : 0); }
};

// What one step computes. `reference` >= 0: each row runs under the reference
// first, then under the variant, and is compared.
struct StepPlan {
  int variant = -1;
  int reference = -1;
  std::vector<PlannedRows> rows;
  bool empty() const { return rows.empty(); }
  int64_t Tokens() const;
  int64_t LogitRows() const;
  int64_t DecodeRows() const;
};

// A preemption, for metrics.
struct Preemption {
  int variant = 0;
  int64_t recomputed_tokens = 0;  // at most: it may find some of them when it comes back
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerLimits& limits);

  // REQUIRES: it fits max_context with its max_tokens, and arrives after those
  // before it.
  void Add(std::unique_ptr<Sequence> sequence);

  // Reads every sequence's control, deadline and time limit at `now`, then
  // fills `plan` (cleared first). While a sequence exists, the plan has a row,
  // or TakeEnded returns one, or a step is in flight.
  void Plan(absl::Duration now, StepPlan* plan);
  // The step's keys and values are written: the caller has appended what was
  // drawn to each sequence, or set its end.
  void Commit(const StepPlan& plan);
  // Sequences that ended and that no step in flight still reads; their blocks
  // are free. Each is returned once.
  std::vector<std::unique_ptr<Sequence>> TakeEnded();
  // Ends everything that has no end yet.
  void EndAll(const SequenceEnd& end);

  const std::vector<Preemption>& preemptions() const { return preemptions_; }  // of the last Plan
  std::span<const std::unique_ptr<Sequence>> sequences() const { return sequences_; }
  const KvPool& pool() const { return pool_; }
  bool idle() const { return sequences_.empty(); }

 private:
  struct Group {
    Priority priority = Priority::kNormal;
    int variant = 0;
    int reference = -1;
    auto operator<=>(const Group&) const = default;
  };

  static Group GroupOf(const Sequence& sequence);
  void ReadEnds(absl::Duration now);
  void ReleaseEnded();
  void AdmitWaiting();
  bool PlanClass(Priority priority, StepPlan* plan);
  bool PlanGroup(const Group& group, StepPlan* plan);
  void PlanDecode(Sequence* sequence, StepPlan* plan);
  void PlanRows(Sequence* sequence, StepPlan* plan);
  bool Admit(Sequence* sequence);
  bool MayPass(const Sequence& sequence, const std::vector<int>& blocked) const;
  bool TakeBlocks(Sequence* sequence);
  void FindPrefix(const Sequence& sequence);
  void IndexBlocks(Sequence* sequence);
  bool Frees(const Sequence& candidate, const Sequence& beneficiary) const;
  bool GrowBlocks(Sequence* sequence, int64_t positions);
  Sequence* Victim(const Sequence& beneficiary) const;
  void Preempt(Sequence* sequence);
  void ReleaseBlocks(Sequence* sequence);

  const SchedulerLimits limits_;
  KvPool pool_;
  std::vector<std::unique_ptr<Sequence>> sequences_;  // by arrival
  std::map<Group, int64_t> cost_;  // of its steps so far, see StepCost; kept when a group is gone
  // By class, the cost of the group that got the last turn, before it: none that
  // waited for a turn has less, so one that has could not run.
  int64_t level_[kNumPriorities] = {};
  int running_ = 0;
  std::vector<Preemption> preemptions_;
  std::vector<int32_t> found_, reference_found_;  // by FindPrefix
};

}  // namespace vernier
