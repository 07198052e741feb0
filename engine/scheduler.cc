#include "engine/scheduler.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/status_payload.h"
#include "kernels/backend.h"
#include "kernels/base/check.h"

namespace vernier {
namespace {

int64_t BlocksFor(int64_t positions) { return (positions + kBlockTokens - 1) / kBlockTokens; }

// A drawn token against one of a prompt, in what a tenant got (VTC's weights).
constexpr int64_t kDrawnTokens = 2;

bool Scored(const Sequence& sequence) {
  return sequence.request->score.has_value() && sequence.computed >= sequence.Rows();
}

// A sequence of the first yields to one of the second: a lower class, or the
// same class and younger.
bool YieldsTo(const Sequence& holder, const Sequence& taker) {
  const Priority a = holder.request->priority;
  const Priority b = taker.request->priority;
  return a != b ? a > b : holder.arrival > taker.arrival;
}

}  // namespace

int64_t StepPlan::Tokens() const {
  int64_t tokens = 0;
  for (const PlannedRows& planned : rows) tokens += planned.count;
  return tokens;
}

int64_t StepPlan::LogitRows() const {
  int64_t logits = 0;
  for (const PlannedRows& planned : rows) logits += planned.LogitRows();
  return logits;
}

int64_t StepPlan::DecodeRows() const {
  return std::count_if(rows.begin(), rows.end(), [](const PlannedRows& planned) {
    return planned.draws && planned.count == 1 && planned.first >= planned.sequence->prompt_tokens;
  });
}

Scheduler::Scheduler(const SchedulerLimits& limits)
    : limits_(limits), pool_(limits.kv_blocks, limits.guaranteed_blocks) {
  VERNIER_CHECK(limits.step_tokens >= 1 && limits.max_logit_rows >= 1 && limits.max_sequences >= 1);
}

Scheduler::Group Scheduler::GroupOf(const Sequence& sequence) {
  const Request& request = *sequence.request;
  return {request.priority, request.variant,
          sequence.Paired() ? request.score->reference_variant : -1};
}

void Scheduler::Add(std::unique_ptr<Sequence> sequence) {
  if (!sequence->request->score.has_value()) {  // nothing is allocated in a step
    const int64_t longest = sequence->prompt_tokens + sequence->request->sampling.max_tokens;
    sequence->tokens.reserve(static_cast<size_t>(longest));
  }
  sequence->tenant = tenants_.Add(sequence->request->tenant);
  // A text of one token has nothing to score.
  if (Scored(*sequence)) sequence->end = SequenceEnd{FinishReason::kStop, -1, {}};
  sequences_.push_back(std::move(sequence));
}

void Scheduler::Plan(absl::Duration now, StepPlan* plan) {
  plan->rows.clear();
  preemptions_.clear();
  ReadEnds(now);
  ReleaseEnded();
  Age(now);
  AdmitWaiting();
  if (!PlanClass(Priority::kNormal, plan)) PlanClass(Priority::kLow, plan);
  pool_.TakeStale(&plan->stale);
  for (PlannedRows& planned : plan->rows) {
    planned.sequence->first_planned = std::min(planned.sequence->first_planned, now);
    planned.sequence->last_planned = now;
  }
}

void Scheduler::Commit(const StepPlan& plan) {
  for (const PlannedRows& planned : plan.rows) {
    Sequence& sequence = *planned.sequence;
    sequence.computed = planned.first + planned.count;
    sequence.in_flight -= 1;
    IndexBlocks(&sequence);
    if (Scored(sequence) && !sequence.end.has_value()) {
      sequence.end = SequenceEnd{FinishReason::kStop, -1, {}};
    }
    VERNIER_CHECK(sequence.in_flight >= 0 && sequence.computed <= sequence.planned);
  }
}

std::vector<std::unique_ptr<Sequence>> Scheduler::TakeEnded() {
  std::vector<std::unique_ptr<Sequence>> ended;
  for (std::unique_ptr<Sequence>& sequence : sequences_) {
    if (!sequence->end.has_value() || sequence->in_flight > 0) continue;
    ReleaseBlocks(sequence.get());
    tenants_.Remove(sequence->request->tenant);
    sequence->tenant = nullptr;
    ended.push_back(std::move(sequence));
  }
  if (ended.empty()) return ended;
  std::erase(sequences_, nullptr);
  return ended;
}

void Scheduler::EndAll(const SequenceEnd& end) {
  for (const auto& sequence : sequences_) {
    if (!sequence->end.has_value()) sequence->end = end;
  }
}

void Scheduler::ReadEnds(absl::Duration now) {
  for (const auto& sequence : sequences_) {
    if (sequence->end.has_value()) continue;
    sequence->end = EndFor(*sequence, now);
    if (sequence->end.has_value()) sequence->end_seen = now;
  }
}

// Before anyone is admitted or preempted for want of them.
void Scheduler::ReleaseEnded() {
  for (const auto& sequence : sequences_) {
    if (sequence->end.has_value() && sequence->in_flight == 0) ReleaseBlocks(sequence.get());
  }
}

void Scheduler::Age(absl::Duration now) {
  if (limits_.aging == absl::InfiniteDuration()) return;
  for (const auto& sequence : sequences_) {
    // For good: it would hardly get on by a row now and then.
    if (now - sequence->last_planned >= limits_.aging) {
      sequence->request->priority = Priority::kNormal;
    }
  }
}

void Scheduler::Observe(const StepPlan& plan, absl::Duration duration) {
  // Of two passes it is not known which took how long.
  if (plan.reference < 0) costs_.Observe(plan.variant, plan.Tokens(), duration);
}

void Scheduler::AdmitWaiting() {
  std::vector<int> blocked;
  for (const Priority priority : {Priority::kNormal, Priority::kLow}) {
    AdmitWaiting(priority, &blocked);
  }
}

// Of the tenant that got the fewest tokens the oldest first, and none past one that does not fit
// but into what its variant is guaranteed: a large prompt is never overtaken for ever. `blocked`:
// the variants of those.
void Scheduler::AdmitWaiting(Priority priority, std::vector<int>* blocked) {
  candidates_.clear();
  for (const auto& sequence : sequences_) {
    if (sequence->request->priority == priority && !sequence->Running() &&
        !sequence->end.has_value()) {
      candidates_.push_back(sequence.get());
    }
  }
  while (!candidates_.empty()) {
    const auto next = std::min_element(candidates_.begin(), candidates_.end(),
                                       [](const Sequence* a, const Sequence* b) {
                                         const auto key = [](const Sequence* sequence) {
                                           const TenantShares::Tenant& tenant = *sequence->tenant;
                                           return std::tuple(tenant.served + tenant.outstanding,
                                                             tenant.running, sequence->arrival);
                                         };
                                         return key(a) < key(b);
                                       });
    Sequence* sequence = *next;
    candidates_.erase(next);
    if (MayPass(*sequence, *blocked) && Admit(sequence)) continue;
    // Nobody passes where nothing is guaranteed.
    if (limits_.guaranteed_blocks.empty()) {
      for (const Sequence* other : candidates_) blocked->push_back(other->request->variant);
      blocked->push_back(sequence->request->variant);
      return;
    }
    blocked->push_back(sequence->request->variant);
  }
}

// Whether a sequence may be admitted though older ones of `blocked` variants wait.
bool Scheduler::MayPass(const Sequence& sequence, const std::vector<int>& blocked) const {
  if (blocked.empty()) return true;
  const Request& request = *sequence.request;
  if (std::find(blocked.begin(), blocked.end(), request.variant) != blocked.end()) return false;
  const int64_t blocks = BlocksFor(std::max<int64_t>(1, sequence.Rows()));
  return blocks <= pool_.Guaranteed(request.variant) &&
         (!sequence.Paired() || blocks <= pool_.Guaranteed(request.score->reference_variant));
}

bool Scheduler::Admit(Sequence* sequence) {
  while (running_ >= limits_.max_sequences || !TakeBlocks(sequence)) {
    Sequence* victim = AdmissionVictim(*sequence);
    if (victim == nullptr) return false;
    Preempt(victim);
    // It waits with the others of its class.
    if (victim->request->priority == sequence->request->priority) candidates_.push_back(victim);
  }
  ++running_;
  ++sequence->tenant->running;
  // What it computes again is not its tenant's fault.
  sequence->charged = std::max(sequence->charged, sequence->found);
  sequence->outstanding = std::max<int64_t>(0, sequence->Rows() - sequence->charged);
  sequence->tenant->outstanding += sequence->outstanding;
  return true;
}

// All the blocks that its known tokens need, found ones first; or none, and false.
bool Scheduler::TakeBlocks(Sequence* sequence) {
  const Request& request = *sequence->request;
  FindPrefix(*sequence);
  // What was found is held before anything else is handed out in its place.
  pool_.Share(found_, &sequence->blocks);
  pool_.Share(reference_found_, &sequence->reference_blocks);
  const int64_t missing =
      BlocksFor(std::max<int64_t>(1, sequence->Rows())) - static_cast<int64_t>(found_.size());
  const auto take = [&](int variant, std::vector<int32_t>* table) {
    // One block is left for those that already run, so that a newcomer is not the
    // first to be preempted.
    const bool spares = running_ > 0 && missing > pool_.Guaranteed(variant);
    return pool_.Available(variant) >= missing + (spares ? 1 : 0) &&
           pool_.Allocate(variant, missing, table);
  };
  if (!take(request.variant, &sequence->blocks) ||
      (sequence->Paired() &&
       !take(request.score->reference_variant, &sequence->reference_blocks))) {
    pool_.Release(&sequence->reference_blocks);
    pool_.Release(&sequence->blocks);
    return false;
  }
  sequence->indexed = static_cast<int64_t>(found_.size());
  sequence->found = sequence->planned = sequence->computed = sequence->indexed * kBlockTokens;
  if (sequence->first_planned == absl::InfiniteDuration())
    sequence->cached_tokens = sequence->found;
  sequence->parent = found_.empty() ? sequence->root : pool_.IdOf(found_.back());
  sequence->reference_parent =
      reference_found_.empty() ? sequence->reference_root : pool_.IdOf(reference_found_.back());
  return true;
}

// What of the sequence need not be computed: of both tables the same positions. The last row is
// computed in any case, and so are those that owe a score, for their logits.
void Scheduler::FindPrefix(const Sequence& sequence) {
  found_.clear();
  reference_found_.clear();
  if (!limits_.prefix_cache) return;
  const int64_t rows = std::min(sequence.Rows() - 1, sequence.FirstScoredRow());
  const auto tokens = std::span(sequence.tokens).first(static_cast<size_t>(rows));
  pool_.Find(sequence.root, tokens, &found_);
  if (!sequence.Paired()) return;
  pool_.Find(sequence.reference_root, tokens, &reference_found_);
  const size_t both = std::min(found_.size(), reference_found_.size());
  found_.resize(both);
  reference_found_.resize(both);
}

void Scheduler::IndexBlocks(Sequence* sequence) {
  // What broke off may have left NaN behind.
  const bool broken = sequence->end.has_value() && sequence->end->reason == FinishReason::kError;
  if (!limits_.prefix_cache || broken) return;
  for (; (sequence->indexed + 1) * kBlockTokens <= sequence->computed; ++sequence->indexed) {
    const size_t block = static_cast<size_t>(sequence->indexed);
    const PrefixIndex::Tokens tokens =
        std::span(sequence->tokens).subspan(block * kBlockTokens).first<kBlockTokens>();
    sequence->parent = pool_.Insert(sequence->parent, tokens, sequence->blocks[block]);
    if (!sequence->Paired()) continue;
    sequence->reference_parent =
        pool_.Insert(sequence->reference_parent, tokens, sequence->reference_blocks[block]);
  }
}

// Who makes room for a newcomer: one of a lower class; else the newest of the tenant that runs
// most, if that one got more and will still run more. Each only so often that it does not end for
// it.
Sequence* Scheduler::AdmissionVictim(const Sequence& newcomer) const {
  Sequence* victim = Victim(newcomer);
  if (victim != nullptr && victim->request->priority != newcomer.request->priority) return victim;
  victim = nullptr;
  for (const auto& candidate : sequences_) {
    if (!candidate->Running() || candidate->in_flight > 0 ||
        candidate->tenant->running < newcomer.tenant->running + 2 ||
        candidate->tenant->served < newcomer.tenant->served ||
        candidate->request->priority != newcomer.request->priority ||
        candidate->preemptions >= limits_.max_preemptions || !Frees(*candidate, newcomer))
      continue;
    if (victim == nullptr || candidate->tenant->running >= victim->tenant->running) {
      victim = candidate.get();
    }
  }
  return victim;
}

// What a step will take, over its variant's weight.
absl::Duration Scheduler::StepCost(const StepPlan& plan) const {
  absl::Duration cost = costs_.Predict(plan.variant, plan.Tokens());
  if (plan.reference >= 0) cost += costs_.Predict(plan.reference, plan.Tokens());
  const size_t index = static_cast<size_t>(plan.variant);
  return index < limits_.weights.size() ? cost / limits_.weights[index] : cost;
}

// Rows of a step that has `decodes`, when `groups` groups take turns.
int64_t Scheduler::StepRows(const StepPlan& decodes, size_t groups) const {
  if (limits_.inter_token_goal == absl::InfiniteDuration()) return limits_.step_tokens;
  const bool somebody_decodes =
      std::any_of(sequences_.begin(), sequences_.end(), [](const auto& sequence) {
        return sequence->Running() && !sequence->end.has_value() && sequence->Generated() > 0;
      });
  if (!somebody_decodes) return limits_.step_tokens;
  const int64_t passes = decodes.reference >= 0 ? 2 : 1;
  const absl::Duration budget = limits_.inter_token_goal / (static_cast<int64_t>(groups) * passes);
  const int64_t rows = costs_.RowsWithin(decodes.variant, budget, limits_.step_tokens);
  return std::min(limits_.step_tokens, std::max(rows, decodes.Tokens() + kLeastChunk));
}

bool Scheduler::PlanClass(Priority priority, StepPlan* plan) {
  absl::Duration& level = level_[static_cast<size_t>(priority)];
  std::set<std::pair<absl::Duration, Group>> turns;
  for (const auto& sequence : sequences_) {
    if (!sequence->Running() || sequence->request->priority != priority) continue;
    const Group group = GroupOf(*sequence);
    turns.emplace(std::max(cost_[group], level), group);
  }
  for (const auto& [cost, group] : turns) {
    if (!PlanGroup(group, turns.size(), plan)) continue;
    level = cost;
    cost_[group] = cost + StepCost(*plan);
    return true;
  }
  return false;
}

bool Scheduler::PlanGroup(const Group& group, size_t groups, StepPlan* plan) {
  plan->variant = group.variant;
  plan->reference = group.reference;
  const auto plannable = [&](const Sequence& sequence) {
    return sequence.Running() && !sequence.end.has_value() && sequence.planned < sequence.Rows() &&
           GroupOf(sequence) == group;
  };
  for (const auto& sequence : sequences_) {
    if (plannable(*sequence) && sequence->Decoding() && sequence->planned > 0)
      PlanDecode(sequence.get(), plan);
  }
  // A decoding sequence that found no block stays plannable, and gets no row here either.
  candidates_.clear();
  for (const auto& sequence : sequences_) {
    if (plannable(*sequence)) candidates_.push_back(sequence.get());
  }
  std::stable_sort(
      candidates_.begin(), candidates_.end(),
      [](const Sequence* a, const Sequence* b) { return a->tenant->served < b->tenant->served; });
  const int64_t step_rows = StepRows(*plan, groups);
  for (Sequence* sequence : candidates_) PlanRows(sequence, step_rows, plan);
  return !plan->empty();
}

void Scheduler::PlanDecode(Sequence* sequence, StepPlan* plan) {
  if (GrowBlocks(sequence, sequence->planned + 1)) PlanRows(sequence, limits_.step_tokens, plan);
}

void Scheduler::PlanRows(Sequence* sequence, int64_t step_rows, StepPlan* plan) {
  // A sequence that could not grow waits with the blocks it has.
  const int64_t covered = static_cast<int64_t>(sequence->blocks.size()) * kBlockTokens;
  const int64_t first = sequence->planned;
  int64_t count = std::min({step_rows - plan->Tokens(), sequence->Rows() - first, covered - first});
  const int64_t logit_room = limits_.max_logit_rows - plan->LogitRows();
  if (count <= 0) return;
  // Row p scores the prompt's token p + 1.
  const int64_t owed = sequence->FirstScoredRow();
  const int64_t scored_from = owed > first + count ? count : std::max<int64_t>(0, owed - first);
  int64_t scored_until = std::clamp(sequence->prompt_tokens - 1 - first, scored_from, count);
  if (scored_until - scored_from > logit_room) {
    scored_until = scored_from + logit_room;
    count = scored_until;
  }
  const bool generates = !sequence->request->score.has_value();
  bool draws = generates && first + count == static_cast<int64_t>(sequence->tokens.size());
  if (draws && scored_until - scored_from == logit_room) {
    draws = false;
    count -= 1;
  }
  if (count <= 0) return;
  plan->rows.push_back({.sequence = sequence,
                        .first = first,
                        .count = static_cast<int32_t>(count),
                        .scored_from = static_cast<int32_t>(std::min(scored_from, count)),
                        .scored_until = static_cast<int32_t>(std::min(scored_until, count)),
                        .draws = draws});
  Charge(sequence, first + count, draws);
  if (scored_until > scored_from) sequence->next_score = first + scored_until + 1;
  sequence->planned = first + count;
  sequence->in_flight += 1;
}

// Counts the rows up to `position` for the tenant, and what they draw.
void Scheduler::Charge(Sequence* sequence, int64_t position, bool draws) {
  TenantShares::Tenant& tenant = *sequence->tenant;
  const int64_t rows = std::max<int64_t>(0, position - sequence->charged);
  const int64_t expected = std::min(rows, sequence->outstanding);
  sequence->charged += rows;
  sequence->outstanding -= expected;
  tenant.outstanding -= expected;
  tenant.served += rows + (draws ? kDrawnTokens - 1 : 0);  // a drawn token is a row itself
}

bool Scheduler::GrowBlocks(Sequence* sequence, int64_t positions) {
  const int64_t missing = BlocksFor(positions) - static_cast<int64_t>(sequence->blocks.size());
  if (missing <= 0) return true;
  const int variant = sequence->request->variant;
  while (pool_.Available(variant) < missing) {
    Sequence* victim = Victim(*sequence);
    if (victim == nullptr) return false;
    Preempt(victim);
  }
  return pool_.Allocate(variant, missing, &sequence->blocks);
}

Sequence* Scheduler::Victim(const Sequence& beneficiary) const {
  Sequence* victim = nullptr;
  for (const auto& candidate : sequences_) {
    // What a step in flight (or the one being planned) may write is not given
    // away.
    if (!candidate->Running() || candidate->in_flight > 0 || !YieldsTo(*candidate, beneficiary) ||
        !Frees(*candidate, beneficiary))
      continue;
    if (victim == nullptr || YieldsTo(*candidate, *victim)) victim = candidate.get();
  }
  return victim;
}

// Whether the beneficiary could have what the candidate gives up: within its guarantee a variant's
// blocks stay with it.
bool Scheduler::Frees(const Sequence& candidate, const Sequence& beneficiary) const {
  const auto is_of = [&](int variant) {
    return variant == beneficiary.request->variant ||
           (beneficiary.Paired() && variant == beneficiary.request->score->reference_variant);
  };
  const auto frees = [&](int variant) { return is_of(variant) || pool_.AboveGuarantee(variant); };
  return frees(candidate.request->variant) ||
         (candidate.Paired() && frees(candidate.request->score->reference_variant));
}

void Scheduler::Preempt(Sequence* sequence) {
  if (sequence->planned > sequence->found) {
    preemptions_.push_back({sequence->request->variant, sequence->planned - sequence->found});
    if (++sequence->preemptions > limits_.max_preemptions && !sequence->end.has_value()) {
      sequence->end =
          SequenceEnd{FinishReason::kError, -1,
                      Rejected(RejectReason::kQueueTokens,
                               absl::StrCat("preempted more than ", limits_.max_preemptions,
                                            " times: the cache is too small for this load"),
                               absl::Seconds(1))};
    }
  }
  ReleaseBlocks(sequence);
  sequence->planned = 0;
  sequence->computed = 0;
  sequence->found = 0;
  sequence->indexed = 0;
}

void Scheduler::ReleaseBlocks(Sequence* sequence) {
  if (!sequence->Running()) return;
  pool_.Release(&sequence->reference_blocks);
  pool_.Release(&sequence->blocks);
  --running_;
  --sequence->tenant->running;
  sequence->tenant->outstanding -= std::exchange(sequence->outstanding, 0);
}

}  // namespace vernier
