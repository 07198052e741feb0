#include "kernels/row_statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace vernier {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Interleaved partial results: element i belongs to lane i % lanes, whatever the vector width.
constexpr size_t kScanLanes = 16;
constexpr size_t kSumLanes = 8;

bool RanksBefore(const Candidate& a, const Candidate& b) {
  return a.value != b.value ? a.value > b.value : a.id < b.id;
}

}  // namespace

RowScan ScanRow(std::span<const float> values) {
  float largest[kScanLanes];
  uint32_t nan[kScanLanes] = {};
  std::fill_n(largest, kScanLanes, -kInfinity);
  const auto take = [&](size_t lane, float v) {
    largest[lane] = v > largest[lane] ? v : largest[lane];
    nan[lane] |= static_cast<uint32_t>(v != v);
  };
  size_t i = 0;
  for (; i + kScanLanes <= values.size(); i += kScanLanes) {
    for (size_t lane = 0; lane < kScanLanes; ++lane) take(lane, values[i + lane]);
  }
  for (; i < values.size(); ++i) take(0, values[i]);

  RowScan scan{.largest = *std::max_element(largest, largest + kScanLanes)};
  uint32_t any_nan = 0;
  for (const uint32_t flag : nan) any_nan |= flag;
  if (std::isinf(scan.largest)) scan.status = RowStatus::kInf;
  if (any_nan != 0) scan.status = RowStatus::kNan;
  return scan;
}

double SumExp(std::span<const float> values, float largest, float lowest) {
  double sums[kSumLanes] = {};
  const double shift = largest;
  const auto term = [&](float v) {
    const double e = ExpNonPositive(static_cast<double>(v) - shift);
    return v >= lowest ? e : 0.0;
  };
  size_t i = 0;
  for (; i + kSumLanes <= values.size(); i += kSumLanes) {
    for (size_t lane = 0; lane < kSumLanes; ++lane) sums[lane] += term(values[i + lane]);
  }
  for (size_t lane = 0; i < values.size(); ++i, ++lane) sums[lane] += term(values[i]);
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

double LogSumExp(std::span<const float> values, float largest) {
  return static_cast<double>(largest) + PortableLog(SumExp(values, largest, -kInfinity));
}

void SelectTop(std::span<const float> values, int64_t k, float lowest,
               std::vector<Candidate>* out) {
  out->clear();
  const auto size = static_cast<int64_t>(values.size());
  k = std::min(k, size);
  if (k <= 0) return;
  // Twice k are gathered, then halved: afterwards only what beats the k-th can enter, and an equal
  // value cannot, since its id is higher.
  const int64_t room = std::min(size, std::max<int64_t>(2 * k, 64));
  float floor = lowest > -kInfinity ? std::nextafter(lowest, -kInfinity) : lowest;
  for (int64_t id = 0; id < size; ++id) {
    if (!(values[id] > floor)) continue;
    out->push_back({values[id], static_cast<int32_t>(id)});
    if (static_cast<int64_t>(out->size()) < room) continue;
    std::nth_element(out->begin(), out->begin() + (k - 1), out->end(), RanksBefore);
    out->resize(k);
    floor = out->back().value;
  }
  std::sort(out->begin(), out->end(), RanksBefore);
  if (static_cast<int64_t>(out->size()) > k) out->resize(k);
}

TopLogprobs TopOf(std::span<const Candidate> sorted, int count, double log_sum_exp) {
  TopLogprobs top;
  top.count = std::min({count, kMaxTopLogprobs, static_cast<int>(sorted.size())});
  for (int i = 0; i < top.count; ++i) {
    top.entries[i] = {sorted[i].id,
                      static_cast<float>(static_cast<double>(sorted[i].value) - log_sum_exp)};
  }
  return top;
}

}  // namespace vernier
