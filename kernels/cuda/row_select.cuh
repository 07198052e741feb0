// Passes over one row of values by one block of threads: largest, sums of exponentials, and the cut
// that keeps the best so many, or the shortest prefix with so much probability.
//
// A cut is found by radix descent, without sorting: counts (or masses, in integers, so that the
// order of additions does not matter) of 2048 digits at a time, three times. Values are functions
// of the token's id.
#pragma once

#include <cfloat>
#include <climits>

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/logit_rows.h"
#include "kernels/portable_math.h"

namespace vernier::cuda {

inline constexpr int kRowThreads = 1024;
inline constexpr int kDigits = 2 * kRowThreads;

// Shared memory of a block.
struct RowShared {
  unsigned long long digits[kDigits];
  double doubles[kWarpLanes];
  unsigned long long sums[kWarpLanes];
  float floats[kWarpLanes];
  int32_t ints[kWarpLanes];
  // The chosen digit and what lies above it.
  unsigned long long before;
  int32_t digit;
  int32_t listed;
  float list_values[kWarpLanes];
  int32_t list_ids[kWarpLanes];
};

struct RowBest {
  int32_t status = kRowOk;
  float largest = 0;
  int32_t id = 0;  // the first with that value
};

// Descending; ties by lower id.
__device__ inline bool RanksBefore(float a, int32_t a_id, float b, int32_t b_id) {
  return a != b ? a > b : a_id < b_id;
}

// visit(id, value) for every token of the thread, ascending. Eight loads are under way at once: a
// row is bound by their latency.
template <class Value, class Visit>
__device__ inline void ForRow(const Value& value, int64_t size, const Visit& visit) {
  constexpr int kAtOnce = 8;
  int64_t i = threadIdx.x;
  for (; i + (kAtOnce - 1) * kRowThreads < size; i += kAtOnce * kRowThreads) {
    float values[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) values[j] = value(i + j * kRowThreads);
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) visit(static_cast<int32_t>(i + j * kRowThreads), values[j]);
  }
  for (; i < size; i += kRowThreads) visit(static_cast<int32_t>(i), value(i));
}

template <class Value>
__device__ RowBest ScanRow(const Value& value, int64_t size, RowShared* shared) {
  float best = -INFINITY;
  int32_t id = INT_MAX;
  int nan = 0;
  ForRow(value, size, [&](int32_t i, float v) {
    nan |= v != v;
    if (v > best || id == INT_MAX) best = v, id = i;
  });
  for (int offset = kWarpLanes / 2; offset > 0; offset /= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, best, offset);
    const int32_t other_id = __shfl_xor_sync(0xffffffffu, id, offset);
    if (RanksBefore(other, other_id, best, id)) best = other, id = other_id;
  }
  const int warp = threadIdx.x / kWarpLanes;
  if (threadIdx.x % kWarpLanes == 0) shared->floats[warp] = best, shared->ints[warp] = id;
  nan = __syncthreads_or(nan);
  best = shared->floats[0], id = shared->ints[0];
  for (int w = 1; w < kRowThreads / kWarpLanes; ++w) {
    if (RanksBefore(shared->floats[w], shared->ints[w], best, id)) {
      best = shared->floats[w], id = shared->ints[w];
    }
  }
  __syncthreads();
  return {nan ? kRowNan : isinf(best) ? kRowInf : kRowOk, best, id};
}

// Of e^(value - largest) over values >= lowest.
template <class Value>
__device__ double SumExp(const Value& value, int64_t size, float largest, float lowest,
                         RowShared* shared) {
  double sum = 0;
  ForRow(value, size, [&](int32_t, float v) {
    if (v >= lowest) sum += ExpNonPositive(static_cast<double>(v) - largest);
  });
  return ReduceBlock(sum, shared->doubles, Add());
}

template <class Value>
__device__ double LogSumExp(const Value& value, int64_t size, float largest, RowShared* shared) {
  return static_cast<double>(largest) +
         PortableLog(SumExp(value, size, largest, -INFINITY, shared));
}

// Unsigned integers in the order of the floats.
__device__ inline uint32_t OrderedKey(float value) {
  const uint32_t bits = __float_as_uint(value + 0.0f);  // -0 is 0
  return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}

// Keeps what is above a key, and of those equal to it the ids up to one.
struct Cut {
  uint32_t key = 0;
  int32_t last_id = INT_MAX;

  __device__ bool Keeps(float value, int32_t id) const {
    const uint32_t own = OrderedKey(value);
    return own > key || (own == key && id <= last_id);
  }
};

// The sum of the values of the threads before this one.
__device__ inline unsigned long long SumBefore(unsigned long long value, RowShared* shared) {
  const int lane = threadIdx.x % kWarpLanes, warp = threadIdx.x / kWarpLanes;
  unsigned long long sum = value;
  for (int offset = 1; offset < kWarpLanes; offset *= 2) {
    const unsigned long long other = __shfl_up_sync(0xffffffffu, sum, offset);
    if (lane >= offset) sum += other;
  }
  if (lane == kWarpLanes - 1) shared->sums[warp] = sum;
  __syncthreads();
  unsigned long long before = 0;
  for (int w = 0; w < warp; ++w) before += shared->sums[w];
  __syncthreads();
  return before + sum - value;
}

// The id of the `wanted`-th token, from 1, whose key is `key`.
template <class Value>
__device__ int32_t IdOfTie(const Value& value, int64_t size, uint32_t key,
                           unsigned long long wanted, RowShared* shared) {
  const int64_t each = (size + kRowThreads - 1) / kRowThreads;
  const int64_t begin = min(size, threadIdx.x * each), end = min(size, begin + each);
  unsigned long long count = 0;
  for (int64_t i = begin; i < end; ++i) count += OrderedKey(value(i)) == key;
  const unsigned long long before = SumBefore(count, shared);
  if (before < wanted && wanted <= before + count) {
    unsigned long long left = wanted - before;
    for (int64_t i = begin; i < end && left > 0; ++i) {
      if (OrderedKey(value(i)) == key && --left == 0) shared->listed = static_cast<int32_t>(i);
    }
  }
  __syncthreads();
  const int32_t id = shared->listed;
  __syncthreads();
  return id;
}

// The shortest prefix, in descending order, of the values >= lowest and above -infinity whose
// weights reach `target` (from 1): all of them where the sum does not. weight(value) is an integer.
template <class Value, class Weight>
__device__ Cut SelectCut(const Value& value, int64_t size, float lowest, const Weight& weight,
                         unsigned long long target, RowShared* shared) {
  constexpr int kShifts[3] = {21, 10, 0};
  constexpr uint32_t kMasks[3] = {0x7ff, 0x7ff, 0x3ff};
  uint32_t prefix = 0, known = 0;  // the key's upper bits so far
  for (int pass = 0; pass < 3; ++pass) {
    for (int i = threadIdx.x; i < kDigits; i += kRowThreads) shared->digits[i] = 0;
    if (threadIdx.x == 0) shared->digit = -1;
    __syncthreads();
    ForRow(value, size, [&](int32_t, float v) {
      if (!(v >= lowest) || v == -INFINITY) return;
      const uint32_t key = OrderedKey(v);
      if ((key & known) != prefix) return;
      const unsigned long long w = weight(v);
      if (w > 0) atomicAdd(&shared->digits[key >> kShifts[pass] & kMasks[pass]], w);
    });
    __syncthreads();
    // Each thread has two digits, the highest first.
    const int high = kDigits - 1 - 2 * static_cast<int>(threadIdx.x);
    const unsigned long long first = shared->digits[high], second = shared->digits[high - 1];
    const unsigned long long before = SumBefore(first + second, shared);
    if (before < target && target <= before + first) {
      shared->digit = high, shared->before = before;
    } else if (before + first < target && target <= before + first + second) {
      shared->digit = high - 1, shared->before = before + first;
    }
    __syncthreads();
    const int digit = shared->digit;
    const unsigned long long above = digit < 0 ? 0 : shared->before;
    const unsigned long long in_digit = digit < 0 ? 0 : shared->digits[digit];
    __syncthreads();
    if (digit < 0) return {};  // less than the target in all
    prefix |= static_cast<uint32_t>(digit) << kShifts[pass];
    known |= kMasks[pass] << kShifts[pass];
    target -= above;
    if (pass < 2) continue;
    // All that is left has one value.
    const uint32_t bits = prefix >> 31 != 0 ? prefix & 0x7fffffffu : ~prefix;
    const unsigned long long each = weight(__uint_as_float(bits));
    const unsigned long long wanted = (target + each - 1) / each;
    if (wanted * each >= in_digit) return {prefix, INT_MAX};
    return {prefix, IdOfTie(value, size, prefix, wanted, shared)};
  }
  return {};
}

template <class Value>
__device__ Cut SelectTop(const Value& value, int64_t size, int64_t k, float lowest,
                         RowShared* shared) {
  return SelectCut(
      value, size, lowest, [](float) { return 1ull; }, static_cast<unsigned long long>(k), shared);
}

// The k <= 32 best of a row into list_values and list_ids, sorted; returns how many there are.
template <class Value>
__device__ int ListTop(const Value& value, int64_t size, int k, RowShared* shared) {
  const Cut cut = SelectTop(value, size, k, -INFINITY, shared);
  if (threadIdx.x == 0) shared->listed = 0;
  __syncthreads();
  ForRow(value, size, [&](int32_t i, float v) {
    if (v == -INFINITY || !cut.Keeps(v, i)) return;
    const int at = atomicAdd(&shared->listed, 1);
    shared->list_values[at] = v, shared->list_ids[at] = i;
  });
  __syncthreads();
  const int count = shared->listed;
  const int own = static_cast<int>(threadIdx.x);
  float v = 0;
  int32_t id = 0;
  int rank = 0;
  if (own < count) {
    v = shared->list_values[own], id = shared->list_ids[own];
    for (int i = 0; i < count; ++i) {
      rank += RanksBefore(shared->list_values[i], shared->list_ids[i], v, id);
    }
  }
  __syncthreads();
  if (own < count) shared->list_values[rank] = v, shared->list_ids[rank] = id;
  __syncthreads();
  return count;
}

}  // namespace vernier::cuda
