// What the tests of activations share: a layer, calls whose last leaves rows of products, and what
// a row that is no number must do.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/backends_under_test.h"
#include "tests/kernels/layer_on_backend.h"
#include "tests/kernels/layer_values.h"
#include "tests/kernels/paged_batch.h"

namespace vernier::testing {

// Rows of 64 columns, and no multiple of 128 or of a tile's outputs.
inline const LayerSpec kRecords = {.name = "records",
                                   .hidden = 576,
                                   .intermediate = 960,
                                   .vocab = 131,
                                   .attention = {.num_heads = 9, .num_kv_heads = 3, .head_dim = 64},
                                   .gate = true};

// q, the hidden layer's two products, and logits.
inline constexpr Call kQueryCalls[] = {Call::kEmbed, Call::kAttentionIn};
inline constexpr Call kMlpCalls[] = {Call::kEmbed, Call::kMlpIn, Call::kMlpOut};
inline constexpr Call kLogitCalls[] = {Call::kEmbed, Call::kLmHead};
inline constexpr std::span<const Call> kProductCalls[] = {kQueryCalls, kMlpCalls, kLogitCalls};

// What the last call makes of positions [first, last).
inline std::vector<float> RunRows(LayerOnBackend* layer, const PagedSequence& sequence,
                                  std::span<const Call> calls, int first, int last) {
  BatchArrays batch;
  AppendRows(sequence, first, last, &batch);
  for (int i = 0; i < last - first; ++i) batch.logit_rows.push_back(i);
  return layer->Run(batch.View(), calls);
}

// Of two rows in a batch, one that attends to keys that were never written has NaN logits alone.
inline void ExpectARowThatIsNoNumberEndsItselfAlone(const BackendOptions& options,
                                                    const LayerValues& values,
                                                    Activations activations) {
  const std::vector<PagedSequence> sequences = MakeSequences({{1, 41}}, values.spec.vocab);
  LayerOnBackend layer(Make(options), values, 64, PoolBlocks(sequences));
  layer.SetActivations(activations);
  layer.Poison(PoolBlocks(sequences));
  BatchArrays batch;
  AppendRows(sequences[0], 0, 1, &batch);
  AppendRows(sequences[1], 40, 41, &batch);
  batch.logit_rows = {0, 1};
  const std::vector<float> logits = layer.Run(batch.View(), kAllCalls);
  const auto is_nan = [](float value) { return std::isnan(value); };
  const auto second = logits.begin() + values.spec.vocab;
  EXPECT_TRUE(std::none_of(logits.begin(), second, is_nan));
  EXPECT_TRUE(std::all_of(second, logits.end(), is_nan));
}

}  // namespace vernier::testing
