// Reads and packs what a LoadPlan wants and the model does not hold yet.
#pragma once

#include "absl/status/status.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/model/load_plan.h"
#include "engine/model/model.h"
#include "kernels/backend.h"

namespace vernier {

// Each tensor is opened once at most, and only for formats that are not in `model->weights`; its
// time is added to the load_seconds of the variants that use it. Errors as LoadModel's; the model
// then keeps what was packed until DropUnusedWeights.
absl::Status LoadTensors(const TensorSource& checkpoint, const LoadPlan& plan, Backend* backend,
                         const LoadProgressFunction& report, Model* model);

// Frees the weights that no variant of the model points to.
void DropUnusedWeights(Model* model);

}  // namespace vernier
