// The self-test of a model that is loaded: greedy decoding must give the tokens that its manifest
// recorded.
//
// It is a request like any other, so that weights, kernels, cache and sampling are all behind it.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/model/model.h"

namespace vernier {

// Tokens whose lead over the second is smaller than this, in natural logarithms, are not recorded:
// another device, another order of sums or 16 bits instead of 32 may draw the other one.
inline constexpr double kGoldenMargin = 0.1;

// Greedy tokens of `variant` behind `prompt`: at most `max_tokens`, up to the model's own end or
// the first with a smaller lead. Waits for the engine. INVALID_ARGUMENT for ids outside of the
// vocabulary; FAILED_PRECONDITION when not one token can be recorded; the engine's own errors.
absl::StatusOr<GoldenTokens> RecordGolden(Engine* engine, const Model& model, int variant,
                                          std::vector<int32_t> prompt, int64_t max_tokens);

// What a variant of `spec` must draw: the model's golden tokens where every weight and the cache
// have 16 bits or more, a format's where it is that format's DefaultVariant. Null where the
// manifest has none for it: what is quantized in another way may rightly draw other tokens.
const GoldenTokens* GoldenOf(const Model& model, const VariantSpec& spec);

// Runs `golden` and compares. Waits for the engine. INVALID_ARGUMENT with both sequences when they
// differ, and for ids outside of the vocabulary or more tokens than the context holds; the engine's
// own errors.
absl::Status CheckGolden(Engine* engine, const Model& model, int variant,
                         const GoldenTokens& golden);

}  // namespace vernier
