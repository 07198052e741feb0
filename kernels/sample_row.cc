#include "kernels/sample_row.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cfloat>
#include <cmath>
#include <limits>

#include "kernels/row_statistics.h"

namespace vernier {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// `after` kept from leaving the finite numbers by overflow, so that a penalty cannot make a row
// undrawable; a token already ruled out stays so.
float Bounded(float before, float after) {
  if (before == -kInfinity || std::isnan(after)) return -kInfinity;
  return std::clamp(after, -FLT_MAX, FLT_MAX);
}

void ApplyPenalties(const SampleRow& row, std::span<float> logits) {
  for (const TokenCount& count : row.counts) {
    if (count.id < 0 || count.id >= static_cast<int64_t>(logits.size())) continue;
    float x = logits[count.id];
    if (count.prompt > 0 || count.generated > 0) {
      x = x > 0 ? x / row.repetition_penalty : x * row.repetition_penalty;
    }
    x -= row.frequency_penalty * static_cast<float>(count.generated);
    if (count.generated > 0) x -= row.presence_penalty;
    logits[count.id] = Bounded(logits[count.id], x);
  }
}

// The logits after penalties, bias and bans: `logits` themselves where there are none.
std::span<const float> Adjust(std::span<const float> logits, const SampleRow& row,
                              SampleScratch* scratch) {
  if (row.counts.empty() && row.biases.empty() && row.banned.empty()) return logits;
  const std::span<float> adjusted(scratch->adjusted.data(), logits.size());
  std::copy(logits.begin(), logits.end(), adjusted.begin());
  ApplyPenalties(row, adjusted);
  const auto known = [&](int32_t id) {
    return id >= 0 && id < static_cast<int64_t>(adjusted.size());
  };
  for (const LogitBias& bias : row.biases) {
    if (!known(bias.id)) continue;
    adjusted[bias.id] = Bounded(adjusted[bias.id], adjusted[bias.id] + bias.bias);
  }
  for (const int32_t id : row.banned) {
    if (known(id)) adjusted[id] = -kInfinity;
  }
  return adjusted;
}

int32_t FirstOf(std::span<const float> values, float value) {
  return static_cast<int32_t>(std::find(values.begin(), values.end(), value) - values.begin());
}

// How many of `sorted` the nucleus holds: the shortest prefix with at least `mass`.
size_t NucleusSize(std::span<const Candidate> sorted, double mass) {
  double before = 0;
  size_t size = 0;
  while (size < sorted.size() && (size == 0 || before < mass)) {
    before += ExpNonPositive(sorted[size].value);
    ++size;
  }
  return size;
}

// The largest value + noise so far; equal keys go to the lower id.
struct Draw {
  double key = -std::numeric_limits<double>::infinity();
  int32_t id = 0;

  void Offer(float value, uint32_t word, int32_t token) {
    if (value + GumbelNoiseBound(std::countl_one(word)) < key) return;
    const double candidate = value + GumbelNoise(word);
    if (candidate > key || (candidate == key && token < id)) *this = {candidate, token};
  }
};

int32_t DrawFrom(std::span<const Candidate> candidates, const SampleRow& row) {
  Draw best;
  for (const Candidate& candidate : candidates) {
    if (candidate.value + kMaxGumbelNoise < best.key) break;  // descending: nor can the rest win
    const PhiloxCounter words = NoiseWords(row.seed, row.position, candidate.id);
    best.Offer(candidate.value, words[candidate.id % 4], candidate.id);
  }
  return best.id;
}

// `scaled` is at most 0, and 0 at the best token.
int32_t DrawFromAll(std::span<const float> scaled, float lowest, const SampleRow& row) {
  Draw best;
  const int32_t first = FirstOf(scaled, 0.0f);
  best.Offer(0.0f, NoiseWords(row.seed, row.position, first)[first % 4], first);
  for (size_t group = 0; group < scaled.size(); group += 4) {
    const size_t end = std::min(group + 4, scaled.size());
    const float largest = *std::max_element(scaled.begin() + group, scaled.begin() + end);
    if (largest < lowest || largest + kMaxGumbelNoise < best.key) continue;
    const PhiloxCounter words = NoiseWords(row.seed, row.position, static_cast<int32_t>(group));
    for (size_t i = group; i < end; ++i) {
      if (scaled[i] >= lowest) best.Offer(scaled[i], words[i - group], static_cast<int32_t>(i));
    }
  }
  return best.id;
}

// The best `top_k` cut by top_p, or the nucleus of all tokens; both from `lowest` up.
int32_t DrawFromTop(std::span<const float> scaled, float lowest, const SampleRow& row,
                    SampleScratch* scratch) {
  std::vector<Candidate>& top = scratch->top;
  const auto vocab = static_cast<int64_t>(scaled.size());
  if (row.top_k > 0) {
    SelectTop(scaled, row.top_k, lowest, &top);
    double mass = 0;
    for (const Candidate& candidate : top) mass += ExpNonPositive(candidate.value);
    if (row.top_p < 1) top.resize(NucleusSize(top, row.top_p * mass));
    return DrawFrom(top, row);
  }
  const double mass = row.top_p * SumExp(scaled, 0.0f, lowest);
  // Most nuclei are small: look at the best 64, then at eight times as many.
  for (int64_t k = 64;; k *= 8) {
    SelectTop(scaled, k, lowest, &top);
    const size_t size = NucleusSize(top, mass);
    if (size < top.size() || k >= vocab) {
      top.resize(size);
      return DrawFrom(top, row);
    }
  }
}

int32_t DrawToken(std::span<const float> adjusted, float largest, const SampleRow& row,
                  SampleScratch* scratch) {
  if (!(row.temperature > 0)) return FirstOf(adjusted, largest);
  const std::span<float> scaled(scratch->scaled.data(), adjusted.size());
  for (size_t i = 0; i < adjusted.size(); ++i) {
    scaled[i] = (adjusted[i] - largest) / row.temperature;
  }
  // A probability of at least min_p times the best one's.
  const float lowest =
      row.min_p > 0 ? std::min(0.0f, static_cast<float>(PortableLog(row.min_p))) : -kInfinity;
  const bool all = row.top_k <= 0 || row.top_k >= static_cast<int64_t>(adjusted.size());
  if (all && row.top_p >= 1) return DrawFromAll(scaled, lowest, row);
  return DrawFromTop(scaled, lowest, row, scratch);
}

}  // namespace

void SampleScratch::Reserve(int64_t vocab) {
  if (static_cast<int64_t>(adjusted.size()) >= vocab) return;
  adjusted.resize(vocab);
  scaled.resize(vocab);
  top.reserve(vocab);
  reference_top.reserve(vocab);
}

SampleResult SampleRowFromLogits(std::span<const float> logits, const SampleRow& row,
                                 SampleScratch* scratch) {
  scratch->Reserve(static_cast<int64_t>(logits.size()));
  SampleResult result;
  const RowScan raw = ScanRow(logits);
  result.status = raw.status;
  if (raw.status != RowStatus::kOk) return result;

  const std::span<const float> adjusted = Adjust(logits, row, scratch);
  const RowScan scan = adjusted.data() == logits.data() ? raw : ScanRow(adjusted);
  result.status = scan.status;
  if (scan.status != RowStatus::kOk) return result;

  result.id = DrawToken(adjusted, scan.largest, row, scratch);
  if (row.top_logprobs < 0) return result;
  const double log_sum_exp = LogSumExp(logits, raw.largest);
  result.logprob = static_cast<float>(logits[result.id] - log_sum_exp);
  if (row.top_logprobs > 0) {
    SelectTop(logits, std::min(row.top_logprobs, kMaxTopLogprobs), -kInfinity, &scratch->top);
    result.top = TopOf(scratch->top, row.top_logprobs, log_sum_exp);
  }
  return result;
}

}  // namespace vernier
