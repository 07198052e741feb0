// Count, mean and variance that do not depend on the order in which values come: sums of integers.
//
// A value becomes an integer of 44 bits by a scale that is fixed with its metric, so that sums of
// squares of 2^39 values fit 128 bits: nothing is ever rounded, carried or lost, values can be
// taken out again, and what was added in any order is equal to the bit.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "absl/numeric/int128.h"
#include "server/experiments/statistics.h"

namespace vernier {

// Steps of 2^(e - 44) within [-2^e, 2^e], the smallest power of two above `limit`. What is beyond
// counts as the end.
class FixedPoint {
 public:
  // REQUIRES: 0 < limit < 2^1000.
  explicit FixedPoint(double limit) { std::frexp(limit, &exponent_); }
  int64_t Of(double value) const {  // REQUIRES: not NaN
    const double end = std::ldexp(1.0, kBits);
    return std::llrint(std::clamp(std::ldexp(value, kBits - exponent_), -end, end));
  }
  double ValueOf(double steps) const { return std::ldexp(steps, exponent_ - kBits); }

 private:
  static constexpr int kBits = 44;
  int exponent_ = 0;
};

class ExactMoments {
 public:
  void Add(int64_t value) {
    ++count_;
    sum_ += value;
    squares_ += absl::int128(value) * value;
  }
  void Remove(int64_t value) {  // REQUIRES: it was added
    --count_;
    sum_ -= value;
    squares_ -= absl::int128(value) * value;
  }
  int64_t count() const { return count_; }
  Moments In(FixedPoint scale) const {
    if (count_ == 0) return {};
    // Around the integer below the mean, so that nothing cancels; modulo 2^128, in which the result
    // fits though its terms may not.
    const absl::int128 middle = sum_ / count_;
    const absl::int128 rest = sum_ - middle * count_;
    const absl::uint128 around =
        absl::uint128(squares_) -
        absl::uint128(middle) * (absl::uint128(sum_) + absl::uint128(rest));
    const double offset = static_cast<double>(rest) / static_cast<double>(count_);
    const double squares =
        std::max(0.0, static_cast<double>(around) - static_cast<double>(rest) * offset);
    return Moments(count_, scale.ValueOf(static_cast<double>(middle) + offset),
                   scale.ValueOf(scale.ValueOf(squares)));
  }

 private:
  int64_t count_ = 0;
  absl::int128 sum_ = 0, squares_ = 0;
};

}  // namespace vernier
