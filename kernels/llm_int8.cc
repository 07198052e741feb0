#include "kernels/llm_int8.h"

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/tensor.h"

namespace vernier {

void RoundAsLlmInt8(std::span<float> x, int64_t width) {
  const auto size = static_cast<int64_t>(x.size());
  VERNIER_CHECK(width > 0 && size % width == 0);
  std::vector<bool> is_outlier(static_cast<size_t>(width));
  for (int64_t i = 0; i < size; ++i) {
    x[i] = F32FromF16(F16FromF32(x[i]));
    if (std::fabs(x[i]) >= kOutlierThreshold) is_outlier[i % width] = true;
  }
  for (int64_t row = 0; row < size; row += width) {
    float largest = 0;
    for (int64_t i = row; i < row + width; ++i) {
      const float magnitude = std::fabs(x[i]);
      if (std::isnan(magnitude)) largest = std::numeric_limits<float>::quiet_NaN();
      if (magnitude < kOutlierThreshold && magnitude > largest) largest = magnitude;
    }
    for (int64_t i = row; i < row + width; ++i) {
      if (is_outlier[i - row]) continue;
      const float code = largest == 0 ? 0 : std::nearbyint(x[i] * (127 / largest));
      x[i] = code * (largest / 127);
    }
  }
}

}  // namespace vernier
