#include "tests/simulation/invariants.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "tests/simulation/traffic.h"

namespace vernier::simulation {
namespace {

std::pair<int, int> GroupOf(const Sequence& sequence) {
  return {sequence.request->variant,
          sequence.Paired() ? sequence.request->score->reference_variant : -1};
}

int64_t Covered(const Sequence& sequence) {
  return static_cast<int64_t>(sequence.blocks.size()) * kBlockTokens;
}

// Has a row that could be computed now, and a place for it.
bool CanRun(const Sequence& sequence) {
  return sequence.Running() && !sequence.end.has_value() &&
         sequence.planned < std::min(sequence.Rows(), Covered(sequence));
}

std::set<const Sequence*> InPlan(const StepPlan& plan) {
  std::set<const Sequence*> planned;
  for (const PlannedRows& rows : plan.rows) planned.insert(rows.sequence);
  return planned;
}

void CheckRows(const PlannedRows& rows) {
  const Sequence& sequence = *rows.sequence;
  EXPECT_GT(rows.count, 0);
  EXPECT_EQ(rows.first + rows.count, sequence.planned);
  EXPECT_GE(rows.first, sequence.computed);
  EXPECT_LE(sequence.planned, sequence.Rows());
  EXPECT_LE(sequence.planned, Covered(sequence)) << "the table is shorter than what is planned";
  if (sequence.Paired()) {
    EXPECT_EQ(sequence.reference_blocks.size(), sequence.blocks.size());
  }
  EXPECT_FALSE(sequence.end.has_value()) << "an ended sequence is planned";
  EXPECT_LE(0, rows.scored_from);
  EXPECT_LE(rows.scored_from, rows.scored_until);
  EXPECT_LE(rows.scored_until, rows.count);
  EXPECT_EQ(rows.draws, !sequence.request->score.has_value() &&
                            sequence.planned == static_cast<int64_t>(sequence.tokens.size()));
}

// A row writes where nobody else looks.
void CheckWrites(const PlannedRows& rows, const KvPool& pool) {
  for (int64_t p = rows.first; p < rows.first + rows.count; ++p) {
    const size_t block = static_cast<size_t>(p / kBlockTokens);
    EXPECT_EQ(pool.owners(rows.sequence->blocks.at(block)), 1);
    EXPECT_FALSE(pool.Findable(rows.sequence->blocks.at(block)));
    if (rows.sequence->Paired()) {
      EXPECT_EQ(pool.owners(rows.sequence->reference_blocks.at(block)), 1);
    }
  }
}

}  // namespace

void CheckPool(const Scheduler& scheduler) {
  const KvPool& pool = scheduler.pool();
  std::vector<int> holders(static_cast<size_t>(pool.total()));
  for (const auto& sequence : scheduler.sequences()) {
    for (const int32_t block : sequence->blocks) ++holders.at(static_cast<size_t>(block));
    for (const int32_t block : sequence->reference_blocks) ++holders.at(static_cast<size_t>(block));
  }
  int64_t free = 0, cached = 0;
  for (int32_t block = 0; block < pool.total(); ++block) {
    EXPECT_EQ(pool.owners(block), holders[static_cast<size_t>(block)]) << "block " << block;
    EXPECT_TRUE(pool.owners(block) <= 1 || pool.Findable(block)) << "block " << block;
    free += pool.owners(block) == 0;
    cached += pool.owners(block) == 0 && pool.Findable(block);
  }
  EXPECT_EQ(pool.free(), free);
  EXPECT_EQ(pool.cached(), cached);
  int64_t used = 0;
  for (int variant = 0; variant < kVariants; ++variant) used += pool.used(variant);
  EXPECT_EQ(used, pool.total() - free);
  for (const auto& sequence : scheduler.sequences()) {
    EXPECT_GE(sequence->computed, sequence->found);
    EXPECT_LE(sequence->indexed * kBlockTokens, sequence->computed);
  }
}

void CheckPlan(const Scheduler& scheduler, const StepPlan& plan, const SchedulerLimits& limits) {
  EXPECT_LE(plan.Tokens(), limits.step_tokens);
  EXPECT_LE(plan.LogitRows(), limits.max_logit_rows);
  const auto running = std::count_if(scheduler.sequences().begin(), scheduler.sequences().end(),
                                     [](const auto& sequence) { return sequence->Running(); });
  EXPECT_LE(running, limits.max_sequences);
  if (plan.empty()) return;
  EXPECT_EQ(InPlan(plan).size(), plan.rows.size()) << "a sequence is planned twice";
  const Priority priority = plan.rows[0].sequence->request->priority;
  for (const PlannedRows& rows : plan.rows) {
    EXPECT_EQ(GroupOf(*rows.sequence), std::pair(plan.variant, plan.reference));
    EXPECT_EQ(rows.sequence->request->priority, priority);
    CheckRows(rows);
    CheckWrites(rows, scheduler.pool());
  }
  if (priority == Priority::kNormal) return;
  for (const auto& sequence : scheduler.sequences()) {
    EXPECT_FALSE(sequence->request->priority == Priority::kNormal && CanRun(*sequence))
        << "the low class runs while request " << sequence->request->id << " could";
  }
}

void CheckArrays(const StepPlan& plan, const StepArrays& arrays) {
  const Batch& batch = arrays.batch;
  ASSERT_EQ(batch.num_rows, plan.Tokens());
  ASSERT_EQ(batch.sequences.size(), plan.rows.size());
  ASSERT_EQ(static_cast<int64_t>(batch.logit_rows.size()), plan.LogitRows());
  EXPECT_TRUE(std::is_sorted(batch.logit_rows.begin(), batch.logit_rows.end()));
  const std::set<int32_t> slots(batch.slots.begin(), batch.slots.end());
  EXPECT_EQ(slots.size(), batch.slots.size()) << "two rows write one slot";
  size_t row = 0;
  for (const PlannedRows& planned : plan.rows) {
    for (int64_t p = planned.first; p < planned.first + planned.count; ++p, ++row) {
      const Sequence& sequence = *planned.sequence;
      EXPECT_EQ(batch.ids[row], sequence.tokens.at(static_cast<size_t>(p)));
      EXPECT_EQ(batch.positions[row], p);
      EXPECT_EQ(batch.slots[row] / kBlockTokens,
                sequence.blocks.at(static_cast<size_t>(p / kBlockTokens)));
    }
  }
}

void CheckInFlight(const StepPlan& plan, const StepArrays& arrays) {
  for (size_t i = 0; i < plan.rows.size(); ++i) {
    const Sequence& sequence = *plan.rows[i].sequence;
    EXPECT_GT(sequence.in_flight, 0);
    const auto prefix = [&](const Batch& batch, const std::vector<int32_t>& table) {
      const SequenceRows& rows = batch.sequences[i];
      const auto launched = batch.blocks.subspan(static_cast<size_t>(rows.first_block),
                                                 static_cast<size_t>(rows.num_blocks));
      return launched.size() <= table.size() &&
             std::equal(launched.begin(), launched.end(), table.begin());
    };
    EXPECT_TRUE(prefix(arrays.batch, sequence.blocks))
        << "request " << sequence.request->id << " lost blocks that a step may write";
    if (plan.reference >= 0) {
      EXPECT_TRUE(prefix(arrays.reference_batch, sequence.reference_blocks))
          << "request " << sequence.request->id << " lost blocks of its reference";
    }
  }
}

void AdmissionOrder::BeforePlan(const Scheduler& scheduler) {
  running_.clear();
  for (const auto& sequence : scheduler.sequences()) {
    if (sequence->Running()) running_.insert(sequence->arrival);
  }
}

void AdmissionOrder::AfterPlan(const Scheduler& scheduler) const {
  for (const auto& waiting : scheduler.sequences()) {
    // One that gave its blocks up in this Plan did so after it had been admitted, or for an older.
    if (waiting->Running() || waiting->end.has_value() || running_.contains(waiting->arrival)) {
      continue;
    }
    for (const auto& admitted : scheduler.sequences()) {
      const bool is_new = admitted->Running() && !running_.contains(admitted->arrival);
      const auto key = [](const Sequence& sequence) {
        const Request& request = *sequence.request;
        return std::tuple(request.priority, request.variant, request.tenant);
      };
      EXPECT_FALSE(is_new && key(*admitted) == key(*waiting) &&
                   admitted->arrival > waiting->arrival)
          << "request " << admitted->request->id << " was admitted past " << waiting->request->id;
    }
  }
}

void FairTurns::AfterPlan(const Scheduler& scheduler, const StepPlan& plan) {
  if (plan.empty()) return;
  std::set<std::pair<int, int>> waiting;
  for (const auto& sequence : scheduler.sequences()) {
    if (sequence->request->priority == Priority::kNormal && CanRun(*sequence)) {
      waiting.insert(GroupOf(*sequence));
    }
  }
  waiting.erase({plan.variant, plan.reference});
  std::erase_if(passed_over_, [&](const auto& entry) { return !waiting.contains(entry.first); });
  // A group waits while the others use what its own last step cost, which is at most that of a
  // paired one; a step costs at least 17 rows (16 for the weights).
  const int64_t turns_of_one = 2 * (limits_.step_tokens + 16) / 17 + 2;
  const int64_t bound = turns_of_one * kVariants * (1 + kVariants);
  for (const auto& group : waiting) {
    EXPECT_LE(++passed_over_[group], bound)
        << "variant " << group.first << " against " << group.second << " gets no turn";
  }
}

}  // namespace vernier::simulation
