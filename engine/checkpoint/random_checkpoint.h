// Models without weights: the shapes of known models, filled with seeded values.
//
// For benchmarks, whose speed does not depend on what the weights say, and for trying a machine.
// Values are generated where they are read, tensor by tensor; nothing is held.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/checkpoint/checkpoint.h"

namespace vernier {

// A path that begins with it names such a model: "random-weights:llama-3.1-8b".
inline constexpr char kRandomWeightsPrefix[] = "random-weights:";

// The names there are, separated by commas.
std::string RandomModelNames();

// A part of a model, where all of it would be more than is measured. 0: as the model has it.
struct RandomModelPart {
  int64_t num_layers = 0;
  int64_t vocab = 0;
};

// The same values each time. Matrices are uniform with a standard deviation of 0.02, as models are
// initialized, and rounded to bf16, as the real ones are stored; norms are 1. INVALID_ARGUMENT
// naming the known models when `name` is none of them.
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenRandomCheckpoint(absl::string_view name,
                                                                 const RandomModelPart& part = {});

// config.json of the same model, as Hugging Face folders have it. INVALID_ARGUMENT as above.
absl::StatusOr<std::string> RandomConfigJson(absl::string_view name,
                                             const RandomModelPart& part = {});

}  // namespace vernier
