// Quantiles of positive values within 1 % of their size, in memory that grows with their range and
// not with their number (DDSketch, Masson et al. 2019). Sketches add up to that of all values, in
// any order, to the bit.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>

namespace vernier {

class QuantileSketch {
 public:
  // Values below 1 count as 1; NaN is left out.
  void Add(double value) {
    if (std::isnan(value)) return;
    ++cells_[value <= 1 ? 0 : static_cast<int>(std::ceil(std::log(value) / kLnGamma))];
    ++count_;
  }
  void Merge(const QuantileSketch& other) {
    for (const auto& [cell, count] : other.cells_) cells_[cell] += count;
    count_ += other.count_;
  }

  int64_t count() const { return count_; }
  // The value below which a share `q` of the values lie; NaN of none.
  double Quantile(double q) const {
    auto left = static_cast<int64_t>(q * static_cast<double>(count_ - 1));
    for (const auto& [cell, count] : cells_) {
      left -= count;
      if (left < 0) return cell == 0 ? 1 : 2 * std::exp(cell * kLnGamma) / (1 + kGamma);
    }
    return std::numeric_limits<double>::quiet_NaN();
  }

 private:
  static constexpr double kGamma = 1.01 / 0.99;
  static inline const double kLnGamma = std::log(kGamma);

  std::map<int, int64_t> cells_;  // cell i: values in (gamma^(i-1), gamma^i]
  int64_t count_ = 0;
};

}  // namespace vernier
