#include <algorithm>
#include <cfloat>
#include <limits>

#include "kernels/base/check.h"
#include "kernels/row_statistics.h"
#include "kernels/sample_row.h"

namespace vernier {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// One side of a comparison, its best tokens in `top`.
struct Side {
  double log_sum_exp = 0;
  float logprob = 0;
  int32_t top1 = 0;
  float margin = 0;
};

Side Describe(std::span<const float> logits, float largest, int32_t target, int k,
              std::vector<Candidate>* top) {
  SelectTop(logits, std::max(k, 2), -kInfinity, top);
  const double log_sum_exp = LogSumExp(logits, largest);
  return {
      .log_sum_exp = log_sum_exp,
      .logprob = static_cast<float>(logits[target] - log_sum_exp),
      .top1 = (*top)[0].id,
      .margin = top->size() > 1 ? std::min((*top)[0].value - (*top)[1].value, FLT_MAX) : FLT_MAX};
}

struct Divergences {
  double from_reference = 0;  // KL(reference || this)
  double to_reference = 0;    // KL(this || reference)
};

Divergences CompareRows(std::span<const float> logits, double log_sum_exp,
                        std::span<const float> reference, double reference_log_sum_exp) {
  constexpr size_t kLanes = 8;
  double from[kLanes] = {};
  double to[kLanes] = {};
  const auto take = [&](size_t lane, size_t i) {
    const double own = logits[i] - log_sum_exp;
    const double other = reference[i] - reference_log_sum_exp;
    const double p = ExpNonPositive(own);
    const double q = ExpNonPositive(other);
    // A token without probability adds nothing, also where the difference is infinite.
    from[lane] += q > 0 ? q * (other - own) : 0.0;
    to[lane] += p > 0 ? p * (own - other) : 0.0;
  };
  size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) take(lane, i + lane);
  }
  for (size_t lane = 0; i < logits.size(); ++i, ++lane) take(lane, i);
  Divergences sums;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    sums.from_reference += from[lane];
    sums.to_reference += to[lane];
  }
  // Never negative but for rounding.
  return {std::max(sums.from_reference, 0.0), std::max(sums.to_reference, 0.0)};
}

// Shared ids of the k best of each side, over k; reorders both.
float OverlapOf(int64_t k, int64_t vocab, std::vector<Candidate>* a, std::vector<Candidate>* b) {
  k = std::min(k, vocab);
  if (k <= 0) return 0;
  const auto by_id = [](const Candidate& x, const Candidate& y) { return x.id < y.id; };
  a->resize(std::min<size_t>(a->size(), k));
  b->resize(std::min<size_t>(b->size(), k));
  std::sort(a->begin(), a->end(), by_id);
  std::sort(b->begin(), b->end(), by_id);
  int64_t shared = 0;
  for (size_t i = 0, j = 0; i < a->size() && j < b->size();) {
    const int32_t left = (*a)[i].id;
    const int32_t right = (*b)[j].id;
    shared += left == right;
    i += left <= right;
    j += right <= left;
  }
  return static_cast<float>(static_cast<double>(shared) / static_cast<double>(k));
}

}  // namespace

ScoreResult ScoreRowFromLogits(std::span<const float> logits, std::span<const float> reference,
                               const ScoreRow& row, int overlap_k, SampleScratch* scratch) {
  const auto vocab = static_cast<int64_t>(logits.size());
  VERNIER_CHECK(row.target >= 0 && row.target < vocab);
  VERNIER_CHECK(reference.empty() || reference.size() == logits.size());
  scratch->Reserve(vocab);
  const int top_logprobs = std::min(row.top_logprobs, kMaxTopLogprobs);
  const int k = std::max(top_logprobs, overlap_k);

  ScoreResult result;
  const RowScan scan = ScanRow(logits);
  result.status = scan.status;
  Side own;
  if (scan.status == RowStatus::kOk) {
    own = Describe(logits, scan.largest, row.target, k, &scratch->top);
    result.logprob = own.logprob;
    result.top1 = own.top1;
    result.margin = own.margin;
    result.top = TopOf(scratch->top, std::max(top_logprobs, 0), own.log_sum_exp);
  }
  if (reference.empty()) return result;

  const RowScan reference_scan = ScanRow(reference);
  result.reference_status = reference_scan.status;
  if (reference_scan.status != RowStatus::kOk) return result;
  const Side other =
      Describe(reference, reference_scan.largest, row.target, overlap_k, &scratch->reference_top);
  result.reference_logprob = other.logprob;
  result.reference_top1 = other.top1;
  result.reference_margin = other.margin;
  if (scan.status != RowStatus::kOk) return result;

  const Divergences kl = CompareRows(logits, own.log_sum_exp, reference, other.log_sum_exp);
  result.kl_from_reference = static_cast<float>(kl.from_reference);
  result.kl_to_reference = static_cast<float>(kl.to_reference);
  result.top_k_overlap = OverlapOf(overlap_k, vocab, &scratch->top, &scratch->reference_top);
  return result;
}

}  // namespace vernier
