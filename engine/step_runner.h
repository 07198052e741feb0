// Runs one planned step on the backend and hands its results to the sequences:
// the only place that touches both.
//
// Device thread alone.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/make_batch.h"
#include "engine/scheduler.h"

namespace vernier {

// A step from its plan to its commit; two of them allow one to be planned while
// the other runs.
struct Step {
  StepPlan plan;
  StepArrays arrays;
  absl::Duration started;
};

// Appends the step's passes and results to the backend.
void LaunchStep(const Model& model, Backend* backend, Step* step);

// After Synchronize: scores and tokens to their sinks, ends to their sequences.
// Sequences that already have an end are passed over. `observer` may be null.
void DeliverStep(const Step& step, absl::Duration now, EngineObserver* observer);

// The last event of an ended sequence. Releases its reservation first, so that
// whoever hears of the end finds the room.
void FinishSequence(Sequence* sequence, absl::Duration now, EngineObserver* observer);

}  // namespace vernier
