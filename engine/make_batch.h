// Turns a StepPlan into the flat arrays that a backend takes, and knows which
// result belongs to whom.
//
// The arrays keep their capacity from step to step. Device thread alone.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/scheduler.h"
#include "kernels/backend.h"

namespace vernier {

// Everything one step reads and writes; must stay as it is until the step is
// synchronized.
struct StepArrays {
  Batch batch;            // of the plan's variant
  Batch reference_batch;  // the same rows in the reference's cache; unset
                          // without a reference

  std::vector<SampleRow> sample_rows;
  std::vector<SampleResult> samples;  // [sample_rows]
  std::vector<ScoreRow> score_rows;
  std::vector<ScoreResult> scores;  // [score_rows]
  // By entry of StepPlan::rows: where its results begin.
  std::vector<int32_t> first_score;
  std::vector<int32_t> sample_of;  // -1: draws nothing

  // Storage behind the batches' spans.
  std::vector<int32_t> ids, positions, logit_rows;
  std::vector<int32_t> slots, reference_slots;
  std::vector<int32_t> blocks, reference_blocks;
  std::vector<SequenceRows> sequences, reference_sequences;
};

// REQUIRES: every planned row's block is in its sequence's tables.
void MakeBatch(const StepPlan& plan, StepArrays* arrays);

}  // namespace vernier
