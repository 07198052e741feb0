// Functions of a gated layer; gating.cuh applies them.
#pragma once

#include <cstdint>

namespace vernier::cuda {

enum class Gating : uint8_t { kSilu, kGeluTanh, kGeluErf };

}  // namespace vernier::cuda
