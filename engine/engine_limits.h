// What an engine's options and its model give together.
#pragma once

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/scheduler.h"

namespace vernier {

// INVALID_ARGUMENT naming the option that is out of range, or cannot hold what the model needs.
absl::StatusOr<SchedulerLimits> LimitsFor(const EngineOptions& options, const Model& model);

}  // namespace vernier
