// How a variant's activations are spelled: one table row each.
//
// To add some: a row here, Activations of kernels/backend.h, its products in each backend that has
// them.
#pragma once

#include <optional>

#include "absl/strings/string_view.h"
#include "kernels/backend.h"

namespace vernier {

struct ActivationsTraits {
  Activations activations;
  const char* name;     // as configs and replies spell it
  const char* suffix;   // behind the format in a variant's bare name; "" where nothing stands there
  const char* meaning;  // of the suffix, in messages that list them
};

// In the order of Activations.
inline constexpr ActivationsTraits kActivations[] = {
    {Activations::kFull, "full", "", ""},
    {Activations::kInt8, "int8", "+a8", "int8 activations"},
    {Activations::kLlmInt8, "llm-int8", "+llm8", "those of LLM.int8"},
    {Activations::kBF16, "bf16", "+abf16", "bf16 activations"},
};

constexpr const ActivationsTraits& TraitsOf(Activations activations) {
  return kActivations[static_cast<int>(activations)];
}
constexpr const char* ActivationsName(Activations activations) {
  return TraitsOf(activations).name;
}

// The row with that name; none: nullopt.
inline std::optional<Activations> ParseActivations(absl::string_view name) {
  for (const ActivationsTraits& traits : kActivations) {
    if (traits.name == name) return traits.activations;
  }
  return std::nullopt;
}

}  // namespace vernier
