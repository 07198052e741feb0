#include "server/divergence.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace vernier {

int64_t FirstDifference(std::span<const int32_t> a, std::span<const int32_t> b) {
  const auto [in_a, in_b] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return in_a - a.begin();
}

int64_t EditDistance(std::span<const int32_t> a, std::span<const int32_t> b) {
  const size_t front = FirstDifference(a, b);
  a = a.subspan(front);
  b = b.subspan(front);
  while (!a.empty() && !b.empty() && a.back() == b.back()) {
    a = a.first(a.size() - 1);
    b = b.first(b.size() - 1);
  }
  if (a.size() < b.size()) std::swap(a, b);
  std::vector<int32_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < a.size(); ++i) {
    int32_t diagonal = row[0];
    row[0] = static_cast<int32_t>(i) + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const int32_t replaced = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

v1::Distribution Distribute(std::vector<double> values) {
  v1::Distribution out;
  if (values.empty()) return out;
  std::sort(values.begin(), values.end());
  const auto quantile = [&](double q) {
    const auto rank = static_cast<size_t>(std::ceil(q * static_cast<double>(values.size())));
    return values[std::clamp<size_t>(rank, 1, values.size()) - 1];
  };
  out.set_mean(std::accumulate(values.begin(), values.end(), 0.0) /
               static_cast<double>(values.size()));
  out.set_p50(quantile(.5));
  out.set_p90(quantile(.9));
  out.set_p99(quantile(.99));
  out.set_max(values.back());
  return out;
}

v1::Divergence Diverge(const std::string& variant, std::span<const int32_t> answer,
                       std::span<const int32_t> reference,
                       std::span<const float> reference_margins) {
  v1::Divergence out;
  out.set_variant(variant);
  const int64_t position = FirstDifference(answer, reference);
  out.set_position(position);
  out.set_identical(answer.size() == reference.size() &&
                    position == static_cast<int64_t>(reference.size()));
  if (!out.identical() && position < static_cast<int64_t>(reference_margins.size())) {
    out.set_margin(reference_margins[position]);
  }
  out.set_edit_distance_tokens(EditDistance(answer, reference));
  if (!reference.empty()) {
    out.set_length_ratio(static_cast<double>(answer.size()) /
                         static_cast<double>(reference.size()));
  }
  return out;
}

v1::ForcedScores SummarizeForced(std::span<const ScoreResult> results, bool paired) {
  v1::ForcedScores out;
  if (results.empty()) return out;
  const auto n = static_cast<double>(results.size());
  double sum = 0, reference_sum = 0, overlap = 0;
  int64_t agreed = 0;
  std::vector<double> kl;
  for (const ScoreResult& result : results) {
    sum += result.logprob;
    if (!paired) continue;
    reference_sum += result.reference_logprob;
    overlap += result.top_k_overlap;
    agreed += result.top1 == result.reference_top1;
    kl.push_back(result.kl_from_reference);
  }
  out.set_positions(results.size());
  out.set_perplexity(std::exp(-sum / n));
  if (!paired) {
    out.set_reference_perplexity(out.perplexity());
    return out;
  }
  *out.mutable_kl() = Distribute(std::move(kl));
  out.set_top1_agreement(static_cast<double>(agreed) / n);
  out.set_top_k_overlap(overlap / n);
  out.set_reference_perplexity(std::exp(-reference_sum / n));
  out.set_log_perplexity_difference((reference_sum - sum) / n);
  return out;
}

}  // namespace vernier
