// Draws one token a block of threads: penalties on a copy of the row, then the largest logit plus
// noise among what temperature, min_p, top_k and top_p leave.
//
// Compiled without contraction of products and sums (see logit_rows.h). A row is read about twice
// for the argmax and some eight times for a nucleus; one row alone is bound by one multiprocessor.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/row_select.cuh"
#include "kernels/philox.h"

namespace vernier::cuda {
namespace {

// As sample_row.cc: kept from leaving the finite numbers; what was ruled out stays so.
__device__ float Bounded(float before, float after) {
  if (before == -INFINITY || after != after) return -INFINITY;
  return fminf(fmaxf(after, -FLT_MAX), FLT_MAX);
}

__device__ float Penalized(const DeviceSampleRow& row, const DeviceCount& count, float logit) {
  float x = logit;
  if (count.prompt > 0 || count.generated > 0) {
    x = x > 0 ? x / row.repetition_penalty : x * row.repetition_penalty;
  }
  x -= row.frequency_penalty * static_cast<float>(count.generated);
  if (count.generated > 0) x -= row.presence_penalty;
  return Bounded(logit, x);
}

// The logits after penalties, bias and bans: `logits` themselves where there are none.
__device__ const float* Adjust(const SampleParameters& p, const DeviceSampleRow& row,
                               const float* logits) {
  if (row.counts.count == 0 && row.biases.count == 0 && row.banned.count == 0) return logits;
  float* adjusted = p.adjusted + blockIdx.x * p.vocab;
  for (int64_t i = threadIdx.x; i < p.vocab; i += kRowThreads) adjusted[i] = logits[i];
  __syncthreads();
  const auto known = [&](int32_t id) { return id >= 0 && id < p.vocab; };
  for (int i = threadIdx.x; i < row.counts.count; i += kRowThreads) {
    const DeviceCount count = p.counts[row.counts.first + i];
    if (known(count.id)) adjusted[count.id] = Penalized(row, count, adjusted[count.id]);
  }
  __syncthreads();
  // In order, since an id may be there twice.
  for (int i = 0; threadIdx.x == 0 && i < row.biases.count; ++i) {
    const DeviceBias bias = p.biases[row.biases.first + i];
    if (!known(bias.id)) continue;
    adjusted[bias.id] = Bounded(adjusted[bias.id], adjusted[bias.id] + bias.bias);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < row.banned.count; i += kRowThreads) {
    const int32_t id = p.banned[row.banned.first + i];
    if (known(id)) adjusted[id] = -INFINITY;
  }
  __syncthreads();
  return adjusted;
}

__device__ PhiloxCounter NoiseWords(const DeviceSampleRow& row, int32_t token) {
  return Philox4x32({static_cast<uint32_t>(token) / 4, static_cast<uint32_t>(row.position),
                     static_cast<uint32_t>(row.position >> 32), 0},
                    {static_cast<uint32_t>(row.seed), static_cast<uint32_t>(row.seed >> 32)});
}

// The largest value + noise so far; equal keys go to the lower id.
struct Draw {
  double key = -INFINITY;
  int32_t id = INT_MAX;

  __device__ void Take(double other, int32_t other_id) {
    if (other > key || (other == key && other_id < id)) key = other, id = other_id;
  }
  __device__ void Offer(float value, uint32_t word, int32_t token) {
    if (value + GumbelNoiseBound(__clz(static_cast<int>(~word))) < key) return;
    Take(value + GumbelNoise(word), token);
  }
};

// Among the tokens that the cuts keep; `best` is one of them, so that most others cannot win.
template <class Value>
__device__ int32_t DrawKept(const Value& value, int64_t size, float lowest, const Cut& cut,
                            const DeviceSampleRow& row, int32_t best, RowShared* shared) {
  Draw draw;
  draw.Offer(value(best), NoiseWords(row, best)[best % 4], best);
  for (int64_t first = 4 * static_cast<int64_t>(threadIdx.x); first < size;
       first += 4 * kRowThreads) {
    const int64_t end = min(first + 4, size);
    float largest = -INFINITY;
    for (int64_t i = first; i < end; ++i) largest = fmaxf(largest, value(i));
    if (largest < lowest || largest + kMaxGumbelNoise < draw.key) continue;
    const PhiloxCounter words = NoiseWords(row, static_cast<int32_t>(first));
    for (int64_t i = first; i < end; ++i) {
      const float v = value(i);
      const auto id = static_cast<int32_t>(i);
      if (v >= lowest && v > -INFINITY && cut.Keeps(v, id)) draw.Offer(v, words[i - first], id);
    }
  }
  for (int offset = kWarpLanes / 2; offset > 0; offset /= 2) {
    const double key = __shfl_xor_sync(0xffffffffu, draw.key, offset);
    const int32_t id = __shfl_xor_sync(0xffffffffu, draw.id, offset);
    draw.Take(key, id);
  }
  const int warp = threadIdx.x / kWarpLanes;
  if (threadIdx.x % kWarpLanes == 0) shared->doubles[warp] = draw.key, shared->ints[warp] = draw.id;
  __syncthreads();
  for (int w = 0; w < kRowThreads / kWarpLanes; ++w) draw.Take(shared->doubles[w], shared->ints[w]);
  __syncthreads();
  return draw.id;
}

// Probabilities relative to the best token's, as integers of 2^-44.
__device__ unsigned long long Mass(float scaled) {
  return static_cast<unsigned long long>(ExpNonPositive(scaled) * 0x1p44);
}

__device__ int32_t DrawToken(const float* adjusted, const RowBest& best, const DeviceSampleRow& row,
                             int64_t vocab, RowShared* shared) {
  if (!(row.temperature > 0)) return best.id;
  const auto value = [&](int64_t i) { return (adjusted[i] - best.largest) / row.temperature; };
  // A probability of at least min_p times the best one's.
  const float lowest =
      row.min_p > 0 ? fminf(0.0f, static_cast<float>(PortableLog(row.min_p))) : -INFINITY;
  Cut cut;
  if (row.top_k > 0 && row.top_k < vocab) {
    cut = SelectTop(value, vocab, row.top_k, lowest, shared);
  }
  if (row.top_p < 1) {
    // The mass of what top_k keeps; -infinity is kept out by having none.
    double mass = 0;
    ForRow(value, vocab, [&](int32_t i, float v) {
      if (v >= lowest && cut.Keeps(v, i)) mass += ExpNonPositive(v);
    });
    mass = ReduceBlock(mass, shared->doubles, Add());
    const double target = ceil(row.top_p * mass * 0x1p44);
    const Cut nucleus =
        SelectCut(value, vocab, lowest, Mass,
                  target < 1 ? 1ull : static_cast<unsigned long long>(target), shared);
    const bool tighter =
        nucleus.key > cut.key || (nucleus.key == cut.key && nucleus.last_id < cut.last_id);
    if (tighter) cut = nucleus;
  }
  return DrawKept(value, vocab, lowest, cut, row, best.id, shared);
}

__global__ void __launch_bounds__(kRowThreads) SampleKernel(const SampleParameters p) {
  __shared__ RowShared shared;
  AwaitKernelAhead();
  const DeviceSampleRow row = p.rows[blockIdx.x];
  const float* logits = p.logits + row.logit_index * p.vocab;
  DeviceSample* out = p.samples + blockIdx.x;
  const auto raw_value = [&](int64_t i) { return logits[i]; };
  const RowBest raw = ScanRow(raw_value, p.vocab, &shared);
  RowBest best = raw;
  const float* adjusted = logits;
  if (raw.status == kRowOk) {
    adjusted = Adjust(p, row, logits);
    if (adjusted != logits) {
      best = ScanRow([&](int64_t i) { return adjusted[i]; }, p.vocab, &shared);
    }
  }
  if (best.status != kRowOk) {
    if (threadIdx.x == 0) *out = {best.status, 0, 0, 0};
    return;
  }
  DeviceSample sample = {kRowOk, DrawToken(adjusted, best, row, p.vocab, &shared), 0, 0};
  if (row.top_logprobs >= 0) {
    const double log_sum_exp = LogSumExp(raw_value, p.vocab, raw.largest, &shared);
    sample.logprob = static_cast<float>(logits[sample.id] - log_sum_exp);
    if (row.top_logprobs > 0) {
      sample.top_count = ListTop(raw_value, p.vocab, min(row.top_logprobs, kMostTop), &shared);
      if (threadIdx.x < sample.top_count) {
        p.tops[blockIdx.x * kMostTop + threadIdx.x] = {
            shared.list_ids[threadIdx.x],
            static_cast<float>(static_cast<double>(shared.list_values[threadIdx.x]) - log_sum_exp)};
      }
    }
  }
  if (threadIdx.x == 0) *out = sample;
}

}  // namespace

cudaError_t LaunchSample(const SampleParameters& p, int rows, cudaStream_t stream) {
  return LaunchAfter(SampleKernel, dim3(rows), kRowThreads, 0, stream, p);
}

}  // namespace vernier::cuda
