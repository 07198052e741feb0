#include "engine/scheduler.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "engine/status_payload.h"
#include "kernels/backend.h"
#include "kernels/base/check.h"

namespace vernier {
namespace {

int64_t BlocksFor(int64_t positions) { return (positions + kBlockTokens - 1) / kBlockTokens; }

// What a step costs, in rows: its passes read the weights, which costs as much
// as this many rows whatever their number, and compute its rows.
constexpr int64_t kPassRows = 16;

int64_t StepCost(const StepPlan& plan) {
  return (plan.Tokens() + kPassRows) * (plan.reference >= 0 ? 2 : 1);
}

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

std::optional<SequenceEnd> EndFor(const Sequence& sequence, absl::Duration now) {
  switch (sequence.request->control->end()) {
    case EndReason::kCancelled:
      return SequenceEnd{FinishReason::kCancelled, -1,
                         absl::CancelledError("cancelled by the client")};
    case EndReason::kStopMatched:
      return SequenceEnd{FinishReason::kStop, -1, {}};
    case EndReason::kDeadline:
      return SequenceEnd{FinishReason::kDeadline, -1,
                         absl::DeadlineExceededError("the deadline passed")};
    case EndReason::kSlowConsumer:
      return SequenceEnd{FinishReason::kSlowConsumer, -1,
                         absl::ResourceExhaustedError("the client reads too slowly")};
    case EndReason::kNone:
      break;
  }
  if (now >= sequence.request->deadline) {
    return SequenceEnd{FinishReason::kDeadline, -1,
                       absl::DeadlineExceededError("the deadline passed")};
  }
  if (now >= sequence.request->time_limit) return SequenceEnd{FinishReason::kTimeLimit, -1, {}};
  return std::nullopt;
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

Scheduler::Scheduler(const SchedulerLimits& limits) : limits_(limits), pool_(limits.kv_blocks) {
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
  // A text of one token has nothing to score.
  if (Scored(*sequence)) sequence->end = SequenceEnd{FinishReason::kStop, -1, {}};
  sequences_.push_back(std::move(sequence));
}

void Scheduler::Plan(absl::Duration now, StepPlan* plan) {
  plan->rows.clear();
  preemptions_.clear();
  ReadEnds(now);
  ReleaseEnded();
  AdmitWaiting();
  if (!PlanClass(Priority::kNormal, plan) && !PlanClass(Priority::kLow, plan)) return;
  for (PlannedRows& planned : plan->rows) {
    planned.sequence->first_planned = std::min(planned.sequence->first_planned, now);
  }
}

void Scheduler::Commit(const StepPlan& plan) {
  for (const PlannedRows& planned : plan.rows) {
    Sequence& sequence = *planned.sequence;
    sequence.computed = planned.first + planned.count;
    sequence.in_flight -= 1;
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

void Scheduler::AdmitWaiting() {
  // Oldest first within a class, and none past one that does not fit: a large
  // prompt is never overtaken for ever.
  for (const Priority priority : {Priority::kNormal, Priority::kLow}) {
    for (const auto& sequence : sequences_) {
      if (sequence->request->priority != priority || sequence->Running() ||
          sequence->end.has_value())
        continue;
      if (!Admit(sequence.get())) return;
    }
  }
}

bool Scheduler::Admit(Sequence* sequence) {
  const int64_t tables = sequence->Paired() ? 2 : 1;
  const int64_t blocks = BlocksFor(std::max<int64_t>(1, sequence->Rows()));
  // One block is left for those that already run, so that a newcomer is not the
  // first to be preempted.
  const auto fits = [&] {
    return running_ < limits_.max_sequences &&
           pool_.free() >= tables * blocks + (running_ > 0 ? 1 : 0);
  };
  while (!fits()) {
    Sequence* victim = Victim(*sequence);
    if (victim == nullptr || victim->request->priority == sequence->request->priority) return false;
    Preempt(victim);
  }
  VERNIER_CHECK(pool_.Allocate(blocks, &sequence->blocks));
  if (tables == 2) VERNIER_CHECK(pool_.Allocate(blocks, &sequence->reference_blocks));
  ++running_;
  return true;
}

bool Scheduler::PlanClass(Priority priority, StepPlan* plan) {
  int64_t& level = level_[static_cast<size_t>(priority)];
  std::set<std::pair<int64_t, Group>> turns;
  for (const auto& sequence : sequences_) {
    if (!sequence->Running() || sequence->request->priority != priority) continue;
    const Group group = GroupOf(*sequence);
    turns.emplace(std::max(cost_[group], level), group);
  }
  for (const auto& [cost, group] : turns) {
    if (!PlanGroup(group, plan)) continue;
    level = cost;
    cost_[group] = cost + StepCost(*plan);
    return true;
  }
  return false;
}

bool Scheduler::PlanGroup(const Group& group, StepPlan* plan) {
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
  const size_t decoding = plan->rows.size();
  const auto planned = [&](const Sequence& sequence) {
    return std::any_of(plan->rows.begin(), plan->rows.begin() + static_cast<ptrdiff_t>(decoding),
                       [&](const PlannedRows& rows) { return rows.sequence == &sequence; });
  };
  for (const auto& sequence : sequences_) {
    if (plannable(*sequence) && !planned(*sequence)) PlanRows(sequence.get(), plan);
  }
  return !plan->empty();
}

void Scheduler::PlanDecode(Sequence* sequence, StepPlan* plan) {
  if (GrowBlocks(sequence, sequence->planned + 1)) PlanRows(sequence, plan);
}

void Scheduler::PlanRows(Sequence* sequence, StepPlan* plan) {
  // A sequence that could not grow waits with the blocks it has.
  const int64_t covered = static_cast<int64_t>(sequence->blocks.size()) * kBlockTokens;
  const int64_t first = sequence->planned;
  int64_t count =
      std::min({limits_.step_tokens - plan->Tokens(), sequence->Rows() - first, covered - first});
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
  if (scored_until > scored_from) sequence->next_score = first + scored_until + 1;
  sequence->planned = first + count;
  sequence->in_flight += 1;
}

bool Scheduler::GrowBlocks(Sequence* sequence, int64_t positions) {
  const int64_t missing = BlocksFor(positions) - static_cast<int64_t>(sequence->blocks.size());
  if (missing <= 0) return true;
  while (pool_.free() < missing) {
    Sequence* victim = Victim(*sequence);
    if (victim == nullptr) return false;
    Preempt(victim);
  }
  return pool_.Allocate(missing, &sequence->blocks);
}

Sequence* Scheduler::Victim(const Sequence& beneficiary) const {
  Sequence* victim = nullptr;
  for (const auto& candidate : sequences_) {
    // What a step in flight (or the one being planned) may write is not given
    // away.
    if (!candidate->Running() || candidate->in_flight > 0 || !YieldsTo(*candidate, beneficiary))
      continue;
    if (victim == nullptr || YieldsTo(*candidate, *victim)) victim = candidate.get();
  }
  return victim;
}

void Scheduler::Preempt(Sequence* sequence) {
  if (sequence->planned > 0) {
    preemptions_.push_back({sequence->request->variant, sequence->planned});
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
}

void Scheduler::ReleaseBlocks(Sequence* sequence) {
  if (!sequence->Running()) return;
  pool_.Release(&sequence->reference_blocks);
  pool_.Release(&sequence->blocks);
  --running_;
}

}  // namespace vernier
