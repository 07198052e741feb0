#include "server/experiments/bucketing.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace vernier {
namespace {

// Fowler, Noll and Vo's hash, variant 1a, of 32 bits.
uint32_t Fnv1a32(absl::string_view first, absl::string_view second = "") {
  uint32_t hash = 0x811c9dc5u;
  for (const absl::string_view part : {first, second}) {
    for (const char c : part) hash = (hash ^ static_cast<uint8_t>(c)) * 0x01000193u;
  }
  return hash;
}

double Xxh3Fraction(absl::string_view seed, absl::string_view value) {
  const std::string joined = absl::StrCat(seed, absl::string_view("\0", 1), value);
  return static_cast<double>(XXH3_64bits(joined.data(), joined.size()) >> 11) * 0x1p-53;
}

}  // namespace

std::optional<double> BucketOf(absl::string_view seed, absl::string_view value, int hash_version) {
  switch (hash_version) {
    case 1:
      return (Fnv1a32(value, seed) % 1000) / 1000.0;
    case 2:
      return (Fnv1a32(absl::AlphaNum(Fnv1a32(seed, value)).Piece()) % 10000) / 10000.0;
    case 3:
      return Xxh3Fraction(seed, value);
    default:
      return std::nullopt;
  }
}

std::vector<BucketRange> BucketRanges(int arms, double coverage, std::span<const double> weights) {
  std::vector<double> shares(weights.begin(), weights.end());
  double sum = 0;
  for (const double share : shares) sum += share;
  const bool one_an_arm = shares.size() == static_cast<size_t>(arms);
  if (!one_an_arm || !(sum >= 0.99 && sum <= 1.01)) shares.assign(arms, 1.0 / arms);
  const double covered = std::clamp(coverage, 0.0, 1.0);
  std::vector<BucketRange> ranges;
  double begin = 0;
  for (const double share : shares) {
    ranges.push_back({begin, begin + covered * share});
    begin += share;
  }
  return ranges;
}

int ArmOf(double bucket, std::span<const BucketRange> ranges) {
  for (size_t arm = 0; arm < ranges.size(); ++arm) {
    if (ranges[arm].Holds(bucket)) return static_cast<int>(arm);
  }
  return -1;
}

bool InLayerSlots(absl::string_view layer, BucketRange slots, absl::string_view unit) {
  const std::optional<double> bucket = BucketOf(absl::StrCat("__", layer), unit, 1);
  return slots.Holds(*bucket);
}

}  // namespace vernier
