// What will be read of a checkpoint, in which formats, and what will point to it: decided before a
// byte is read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/model/model.h"
#include "kernels/backend.h"

namespace vernier {

// `*` in `pattern` stands for any run of characters, the rest for itself.
bool MatchesPattern(absl::string_view pattern, absl::string_view name);

// One matrix of the checkpoint: read once, packed once a format.
struct MatrixPlan {
  struct Use {
    int variant = 0;
    size_t format = 0;                // index into `formats`
    const Weight** target = nullptr;  // in a variant of the model
  };
  std::string name;  // canonical, as the checkpoint has it
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<FormatId> formats;  // distinct
  std::vector<Use> uses;
};

// One vector, shared by every variant.
struct VectorPlan {
  std::string name;
  int64_t size = 0;
  std::vector<const Vector**> targets;
};

struct LoadPlan {
  std::vector<MatrixPlan> matrices;
  std::vector<VectorPlan> vectors;
};

// Plans every tensor of those `variants` that are not null, one for each of `specs`: gives them
// their layers, norm kinds and epsilons, and points at them. REQUIRES: they are without layers, and
// not moved while the plan lives. INVALID_ARGUMENT naming a tensor that is missing or left without
// a format.
absl::StatusOr<LoadPlan> PlanLoad(const TensorSource& checkpoint,
                                  const std::vector<VariantSpec>& specs,
                                  const std::vector<VariantWeights*>& variants);

}  // namespace vernier
