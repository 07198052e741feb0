// What SampleRow and ScoreRow of backend.h mean, as functions of one row of logits.
//
// Every CPU backend calls these, so that they agree to the bit. Pure: the result depends on the
// arguments alone, and the arithmetic is plain IEEE fp32 and fp64 without library functions. Sums
// over the vocabulary are in double, in eight interleaved partial sums. Thread-safe: calls that run
// at the same time need a scratch each.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/philox.h"
#include "kernels/portable_math.h"

namespace vernier {

struct Candidate {
  float value = 0;
  int32_t id = 0;
};

// Room for one row at a time; nothing is allocated once it has been used or reserved for the
// vocabulary.
struct SampleScratch {
  void Reserve(int64_t vocab);

  std::vector<float> adjusted;           // [vocab] logits after penalties, bias and bans
  std::vector<float> scaled;             // [vocab] (adjusted - largest) / temperature
  std::vector<Candidate> top;            // capacity vocab
  std::vector<Candidate> reference_top;  // capacity vocab
};

// Draws one token of `logits` [vocab] as SampleRow says; row.logit_index is the caller's.
//
// Exactly top_k tokens stay (ties by lower id); top_p keeps the shortest prefix, in descending
// order, that holds at least top_p of the probability left after min_p and top_k, and always the
// best token. An id of counts, biases or banned beyond the vocabulary is ignored, since it cannot
// be drawn; counts holds an id at most once. When penalties and bans leave nothing to draw the
// status is kInf. With a status other than kOk the other fields keep their defaults.
SampleResult SampleRowFromLogits(std::span<const float> logits, const SampleRow& row,
                                 SampleScratch* scratch);

// What `logits` [vocab] say of row.target, compared with `reference` [vocab] unless that is empty.
//
// REQUIRES: 0 <= row.target < vocab. Where no second token has a finite logit, the margin is the
// largest float. A divergence is infinite where its second distribution rules a token out that the
// first allows. With a row status other than kOk that side's fields, and the comparison's, keep
// their defaults.
ScoreResult ScoreRowFromLogits(std::span<const float> logits, std::span<const float> reference,
                               const ScoreRow& row, int overlap_k, SampleScratch* scratch);

// The four tokens from 4 * (token / 4) share one Philox call; `token`'s word is token % 4.
constexpr PhiloxCounter NoiseWords(uint64_t seed, uint64_t position, int32_t token) {
  return Philox4x32({static_cast<uint32_t>(token) / 4, static_cast<uint32_t>(position),
                     static_cast<uint32_t>(position >> 32), 0},
                    {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
}

}  // namespace vernier
