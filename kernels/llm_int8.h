// What LLM.int8 makes of the rows that enter a product (Dettmers et al. 2022), as bitsandbytes
// computes it: int8 with a scale a row, but for columns that hold an outlier.
#pragma once

#include <cstdint>
#include <span>

namespace vernier {

// transformers' default of llm_int8_threshold.
inline constexpr float kOutlierThreshold = 6.0f;

// Replaces `x` [rows, width] by what its product with a weight is made of. Values are rounded to
// fp16 first. A column is an outlier where any row's magnitude is at least the threshold: it stays
// in fp16, in every row. Of other columns a value becomes a whole number of its row's scale, the
// largest magnitude below the threshold (small values of outlier columns count) / 127; what is no
// number makes all of these columns of its row no numbers. So a row depends on those beside it.
// REQUIRES: width > 0 divides the size of `x`.
void RoundAsLlmInt8(std::span<float> x, int64_t width);

}  // namespace vernier
