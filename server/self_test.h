// Golden tokens at the start and after each load: a variant that draws others serves nobody.
#pragma once

#include "absl/status/status.h"
#include "engine/engine.h"
#include "engine/model/model.h"

namespace vernier {

// OK where `variant`, which `spec` made, draws what engine/golden.h has for it, or has nothing. A
// request of it counts in the metrics as any other. Where it draws other tokens it is `failed` and
// unloaded, and the status is INVALID_ARGUMENT with both sequences; else the engine's own errors.
// Logs what it found. One thread at a time, that which loads variants.
absl::Status SelfTest(const VariantSpec& spec, int variant, Engine* engine, Model* model);

}  // namespace vernier
