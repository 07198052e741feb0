// What a row of logits says of a given token, and how far two rows are from each other, a block of
// threads a row; nothing of the vocabulary's size leaves the device.
//
// Compiled without contraction of products and sums (see logit_rows.h).
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/row_select.cuh"

namespace vernier::cuda {
namespace {

// One side of a comparison.
struct Side {
  int32_t status = kRowOk;
  double log_sum_exp = 0;
  float logprob = 0;
  int32_t top1 = 0;
  float margin = 0;
  int listed = 0;  // of shared's list
};

template <class Value>
__device__ Side Describe(const Value& value, int64_t vocab, int32_t target, int k,
                         RowShared* shared) {
  Side side;
  const RowBest best = ScanRow(value, vocab, shared);
  side.status = best.status;
  if (best.status != kRowOk) return side;
  side.log_sum_exp = LogSumExp(value, vocab, best.largest, shared);
  side.logprob = static_cast<float>(value(target) - side.log_sum_exp);
  side.listed = ListTop(value, vocab, max(k, 2), shared);
  side.top1 = best.id;
  side.margin =
      side.listed > 1 ? fminf(shared->list_values[0] - shared->list_values[1], FLT_MAX) : FLT_MAX;
  return side;
}

struct Divergences {
  double from_reference, to_reference;
};

template <class Value>
__device__ Divergences Compare(const Value& own_value, double own_sum, const Value& other_value,
                               double other_sum, int64_t vocab, RowShared* shared) {
  double from = 0, to = 0;
  for (int64_t i = threadIdx.x; i < vocab; i += kRowThreads) {
    const double own = own_value(i) - own_sum;
    const double other = other_value(i) - other_sum;
    const double p = ExpNonPositive(own);
    const double q = ExpNonPositive(other);
    // A token without probability adds nothing, also where the difference is infinite.
    from += q > 0 ? q * (other - own) : 0.0;
    to += p > 0 ? p * (own - other) : 0.0;
  }
  from = ReduceBlock(from, shared->doubles, Add());
  to = ReduceBlock(to, shared->doubles, Add());
  // Never negative but for rounding.
  return {fmax(from, 0.0), fmax(to, 0.0)};
}

__global__ void __launch_bounds__(kRowThreads) ScoreKernel(const ScoreParameters p) {
  __shared__ RowShared shared;
  __shared__ int32_t own_ids[kMostTop];
  __shared__ DeviceScore score;
  AwaitKernelAhead();
  const DeviceScoreRow row = p.rows[blockIdx.x];
  const int top = min(max(row.top_logprobs, 0), kMostTop);
  const auto values_of = [&](const float* logits) {
    const float* values = logits + row.logit_index * p.vocab;
    return [values](int64_t i) { return values[i]; };
  };
  const auto thread = static_cast<int>(threadIdx.x);
  if (thread == 0) score = {};
  __syncthreads();

  const auto own_value = values_of(p.logits);
  const Side own = Describe(own_value, p.vocab, row.target, max(top, p.overlap_k), &shared);
  const int own_listed = min(own.listed, p.overlap_k);
  if (thread < own_listed) own_ids[thread] = shared.list_ids[thread];
  if (own.status == kRowOk && thread < min(top, own.listed)) {
    score.top[thread] = {
        shared.list_ids[thread],
        static_cast<float>(static_cast<double>(shared.list_values[thread]) - own.log_sum_exp)};
  }
  if (thread == 0) {
    score.status = own.status, score.logprob = own.logprob;
    score.top1 = own.top1, score.margin = own.margin;
    score.top_count = own.status == kRowOk ? min(top, own.listed) : 0;
  }
  __syncthreads();
  if (p.reference != nullptr) {
    const auto other_value = values_of(p.reference);
    const Side other = Describe(other_value, p.vocab, row.target, p.overlap_k, &shared);
    if (thread == 0) {
      score.reference_status = other.status, score.reference_logprob = other.logprob;
      score.reference_top1 = other.top1, score.reference_margin = other.margin;
    }
    if (own.status == kRowOk && other.status == kRowOk) {
      const int64_t k = min(static_cast<int64_t>(p.overlap_k), p.vocab);
      bool is_shared = false;
      for (int i = 0; thread < own_listed && i < min(other.listed, p.overlap_k); ++i) {
        is_shared |= shared.list_ids[i] == own_ids[thread];
      }
      const int count = __syncthreads_count(is_shared);
      const Divergences kl =
          Compare(own_value, own.log_sum_exp, other_value, other.log_sum_exp, p.vocab, &shared);
      if (thread == 0) {
        score.kl_from_reference = static_cast<float>(kl.from_reference);
        score.kl_to_reference = static_cast<float>(kl.to_reference);
        score.top_k_overlap =
            k <= 0 ? 0.0f : static_cast<float>(static_cast<double>(count) / static_cast<double>(k));
      }
    }
  }
  __syncthreads();
  if (thread == 0) p.scores[blockIdx.x] = score;
}

}  // namespace

cudaError_t LaunchScore(const ScoreParameters& p, int rows, cudaStream_t stream) {
  return LaunchAfter(ScoreKernel, dim3(rows), kRowThreads, 0, stream, p);
}

}  // namespace vernier::cuda
