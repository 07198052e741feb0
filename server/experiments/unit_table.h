// Values by unit: each unit counts once in an arm's moments, by the mean of its values.
//
// Requests of a session resemble each other, so what is compared is units. Columns are whatever the
// caller tells apart (metrics, strata). Where there are more units than the table may hold, it
// keeps those whose hash ends in enough zeros (Flajolet 1990, "On adaptive sampling"): a uniform
// sample, the same in whatever order units came, of which everything is known.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/numeric/int128.h"
#include "server/experiments/exact_moments.h"

namespace vernier {

class UnitTable {
 public:
  UnitTable(int arms, int columns, size_t max_units);

  // The unit has this arm.
  void Bind(uint64_t unit, int arm);
  void Add(uint64_t unit, int arm, int column, int64_t value);
  // REQUIRES: it was added.
  void Remove(uint64_t unit, int arm, int column, int64_t value);
  // A value that stands for itself, in no unit.
  void AddAlone(int arm, int column, int64_t value) { MomentsOf(arm, column).Add(value); }
  void RemoveAlone(int arm, int column, int64_t value) { MomentsOf(arm, column).Remove(value); }

  const ExactMoments& Of(int arm, int column) const { return moments_[arm * columns_ + column]; }
  // 2^-n: the share of units that is kept.
  double share() const { return std::ldexp(1.0, -level_); }
  struct Counts {
    int64_t units = 0;            // that have an arm
    int64_t in_several_arms = 0;  // of them
    std::vector<int64_t> in_arm;
  };
  Counts CountUnits() const;

 private:
  struct Cell {
    uint64_t unit = 0;
    uint32_t arm = 0;
    uint32_t column = 0;
    bool operator==(const Cell&) const = default;
    template <typename H>
    friend H AbslHashValue(H state, const Cell& cell) {
      return H::combine(std::move(state), cell.unit, cell.arm, cell.column);
    }
  };
  struct Sum {
    absl::int128 sum = 0;
    int64_t count = 0;
    int64_t Mean() const { return static_cast<int64_t>(sum / count); }
  };

  ExactMoments& MomentsOf(int arm, int column) { return moments_[arm * columns_ + column]; }
  bool Keeps(uint64_t unit) const;
  // The unit's arms, made where it is new; null where it is not in the sample.
  uint32_t* ArmsOf(uint64_t unit);
  void Thin();

  const int arms_, columns_;
  const size_t max_units_;
  int level_ = 0;
  absl::flat_hash_map<uint64_t, uint32_t> arms_of_unit_;  // a bit an arm
  absl::flat_hash_map<Cell, Sum> sums_;
  std::vector<ExactMoments> moments_;  // [arms, columns]
};

}  // namespace vernier
