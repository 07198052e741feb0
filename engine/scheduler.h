// Decides what each step computes: pure values in and out, no clock, device,
// lock or log.
//
// Iteration-level batching with chunked prefill. A step serves one group of sequences: those of one
// class and variant, or the paired scores of one (variant, reference).
//
// - Turns between groups: the one whose steps cost the least so far, over its variant's weight, is
//   next, and one that could not run is owed nothing for it (start-time fair queuing; Goyal, Vin
//   and Cheng 1996). Costs are measured (step_costs.h). It has the bound of deficit round-robin
//   without a quantum to choose.
// - Within a group decode rows come first, then chunks of prompts up to the rows that keep the
//   inter-token goal. The low class gets a step only when no sequence of the normal class can use
//   it, or when it has aged into that class.
// - Who starts to run, and whose prompt comes first: the oldest request of the tenant that got the
//   fewest tokens (tenant_shares.h). One that got less than another and runs fewer sequences takes
//   the place of the other's newest.
// - Cache blocks for a prompt are taken when it starts to run; when a growing sequence finds none,
//   the newest of the lowest class gives up its blocks and is recomputed later (as vLLM v1 does),
//   with what it had drawn as part of its prompt. After max_preemptions it ends instead, and never
//   for another tenant's sake. Full blocks whose step has completed can be found by later sequences
//   with the same beginning, which compute what is behind it alone.
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
#include "engine/step_costs.h"
#include "engine/tenant_shares.h"

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
  std::vector<double> weights;             // by variant, of its turns; past the end 1
  // While a sequence decodes, chunks of prompts are cut so that all groups' steps together take no
  // longer, as far as their costs are known; but never below kLeastChunk rows.
  absl::Duration inter_token_goal = absl::InfiniteDuration();
  // A sequence of the low class that got no row for so long belongs to the normal class.
  absl::Duration aging = absl::InfiniteDuration();
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
  std::vector<int32_t> stale;  // blocks that were freed or changed hands since the plan before
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

// Rows of prompts in a step, however long it takes: below, a prompt would take for ever.
inline constexpr int64_t kLeastChunk = 16;

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
  // What the step took: later plans are made from it.
  void Observe(const StepPlan& plan, absl::Duration duration);
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
  void AdmitWaiting(Priority priority, std::vector<int>* blocked);
  Sequence* AdmissionVictim(const Sequence& newcomer) const;
  void Age(absl::Duration now);
  absl::Duration StepCost(const StepPlan& plan) const;
  int64_t StepRows(const StepPlan& decodes, size_t groups) const;
  bool PlanClass(Priority priority, StepPlan* plan);
  bool PlanGroup(const Group& group, size_t groups, StepPlan* plan);
  void PlanDecode(Sequence* sequence, StepPlan* plan);
  void PlanRows(Sequence* sequence, int64_t step_rows, StepPlan* plan);
  bool Admit(Sequence* sequence);
  bool MayPass(const Sequence& sequence, const std::vector<int>& blocked) const;
  bool TakeBlocks(Sequence* sequence);
  void FindPrefix(const Sequence& sequence);
  void IndexBlocks(Sequence* sequence);
  bool Frees(const Sequence& candidate, const Sequence& beneficiary) const;
  static void Charge(Sequence* sequence, int64_t position, bool draws);
  bool GrowBlocks(Sequence* sequence, int64_t positions);
  Sequence* Victim(const Sequence& beneficiary) const;
  void Preempt(Sequence* sequence);
  void ReleaseBlocks(Sequence* sequence);

  const SchedulerLimits limits_;
  KvPool pool_;
  std::vector<std::unique_ptr<Sequence>> sequences_;  // by arrival
  StepCosts costs_;
  TenantShares tenants_;
  // Of a group's steps so far, over its weight; kept when it is gone.
  std::map<Group, absl::Duration> cost_;
  // By class, the cost of the group that got the last turn, before it: none that
  // waited for a turn has less, so one that has could not run.
  absl::Duration level_[kNumPriorities] = {};
  int running_ = 0;
  std::vector<Preemption> preemptions_;
  std::vector<Sequence*> candidates_;             // of AdmitWaiting and PlanGroup
  std::vector<int32_t> found_, reference_found_;  // by FindPrefix
};

}  // namespace vernier
