// Which arm a unit belongs to: a published function of an experiment's salt and the unit's id.
//
// Versions 1 and 2 are GrowthBook's, so that an arm chosen by one of its SDKs is the same arm here:
// FNV-1a of 32 bits, once over value + seed in steps of 1/1000 (old experiments alone), or twice
// over seed + value in steps of 1/10000. Version 3 is XXH3's 64 bits of seed, a zero byte and
// value, the upper 53 of them as a fraction: no steps. Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/strings/string_view.h"

namespace vernier {

inline constexpr int kMinHashVersion = 1;
inline constexpr int kMaxHashVersion = 3;

// Where `value` falls in [0, 1]; nothing for a version that does not exist.
std::optional<double> BucketOf(absl::string_view seed, absl::string_view value, int hash_version);

// A bucket is in a range when begin <= bucket < end.
struct BucketRange {
  double begin = 0;
  double end = 0;
  bool Holds(double bucket) const { return bucket >= begin && bucket < end; }
};

// One range an arm: [c_i, c_i + coverage * w_i) with c_i the weights before it, so that a wider
// coverage takes units in and moves none from arm to arm. As GrowthBook does, coverage is brought
// into [0, 1], and weights that are not one an arm, or do not sum to 1 within 0.01, count as equal.
std::vector<BucketRange> BucketRanges(int arms, double coverage, std::span<const double> weights);

// The first range that holds `bucket`; -1: none, the unit takes no part.
int ArmOf(double bucket, std::span<const BucketRange> ranges);

// Whether `unit` is in the part of a layer that an experiment has: GrowthBook's namespaces.
bool InLayerSlots(absl::string_view layer, BucketRange slots, absl::string_view unit);

}  // namespace vernier
