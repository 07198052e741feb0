#include "server/experiments/unit_table.h"

#include <bit>

#include "kernels/base/check.h"

namespace vernier {
namespace {

// The finalizer of MurmurHash3 (public domain): a unit's hash has no structure left to sample by.
uint64_t Mixed(uint64_t hash) {
  hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccdULL;
  hash = (hash ^ (hash >> 33)) * 0xc4ceb9fe1a85ec53ULL;
  return hash ^ (hash >> 33);
}

}  // namespace

UnitTable::UnitTable(int arms, int columns, size_t max_units)
    : arms_(arms),
      columns_(columns),
      max_units_(max_units),
      moments_(static_cast<size_t>(arms) * static_cast<size_t>(columns)) {
  VERNIER_CHECK(arms > 0 && arms <= 32 && max_units > 0);
}

bool UnitTable::Keeps(uint64_t unit) const { return std::countr_zero(Mixed(unit)) >= level_; }

void UnitTable::Thin() {
  while (arms_of_unit_.size() > max_units_ && level_ < 64) {
    ++level_;
    absl::erase_if(arms_of_unit_, [&](const auto& entry) { return !Keeps(entry.first); });
  }
  absl::erase_if(sums_, [&](const auto& entry) {
    const auto& [cell, sum] = entry;
    if (Keeps(cell.unit)) return false;
    MomentsOf(static_cast<int>(cell.arm), static_cast<int>(cell.column)).Remove(sum.Mean());
    return true;
  });
}

uint32_t* UnitTable::ArmsOf(uint64_t unit) {
  if (!Keeps(unit)) return nullptr;
  const auto [entry, is_new] = arms_of_unit_.try_emplace(unit, 0);
  if (!is_new || arms_of_unit_.size() <= max_units_) return &entry->second;
  Thin();
  const auto again = arms_of_unit_.find(unit);
  return again == arms_of_unit_.end() ? nullptr : &again->second;
}

void UnitTable::Bind(uint64_t unit, int arm) {
  if (uint32_t* arms = ArmsOf(unit)) *arms |= uint32_t{1} << arm;
}

void UnitTable::Add(uint64_t unit, int arm, int column, int64_t value) {
  if (ArmsOf(unit) == nullptr) return;
  Sum& sum = sums_[{unit, static_cast<uint32_t>(arm), static_cast<uint32_t>(column)}];
  ExactMoments& moments = MomentsOf(arm, column);
  if (sum.count > 0) moments.Remove(sum.Mean());
  sum.sum += value;
  ++sum.count;
  moments.Add(sum.Mean());
}

void UnitTable::Remove(uint64_t unit, int arm, int column, int64_t value) {
  const auto found = sums_.find({unit, static_cast<uint32_t>(arm), static_cast<uint32_t>(column)});
  if (found == sums_.end()) return;  // not in the sample
  Sum& sum = found->second;
  ExactMoments& moments = MomentsOf(arm, column);
  moments.Remove(sum.Mean());
  sum.sum -= value;
  if (--sum.count == 0) {
    sums_.erase(found);
  } else {
    moments.Add(sum.Mean());
  }
}

UnitTable::Counts UnitTable::CountUnits() const {
  Counts counts{.in_arm = std::vector<int64_t>(static_cast<size_t>(arms_))};
  for (const auto& [unit, arms] : arms_of_unit_) {
    if (arms == 0) continue;
    ++counts.units;
    counts.in_several_arms += std::has_single_bit(arms) ? 0 : 1;
    for (int arm = 0; arm < arms_; ++arm) counts.in_arm[arm] += (arms >> arm) & 1;
  }
  return counts;
}

}  // namespace vernier
