// Sample and Score of every backend: what the pure functions of one row say of the logits that the
// backend itself made.
#include <cmath>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/sample_row.h"
#include "tests/kernels/backends_under_test.h"
#include "tests/kernels/layer_on_backend.h"
#include "tests/kernels/layer_values.h"
#include "tests/kernels/paged_batch.h"

namespace vernier::testing {
namespace {

constexpr LayerSpec kSpec{.name = "head alone",
                          .hidden = 48,
                          .intermediate = 16,
                          .vocab = 211,
                          .attention = {.num_heads = 2, .num_kv_heads = 1, .head_dim = 8}};
constexpr int kRows = 9;

class SamplingConformanceTest : public ::testing::TestWithParam<BackendUnderTest> {
 protected:
  SamplingConformanceTest()
      : layer_(Make(GetParam().options), MakeLayer(kSpec, FormatId::kF32, kBlockTokens), kRows, 8) {
    const int lengths[] = {kRows, kRows};
    const std::vector<PagedSequence> sequences = MakeSequences(lengths, kSpec.vocab);
    for (int i = 0; i < 2; ++i) {
      AppendRows(sequences[i], 0, kRows, &batches_[i]);
      for (int row = 1; row < kRows; ++row) batches_[i].logit_rows.push_back(row);
    }
  }

  // Logits of batch 1 into buffer 1, then, in a step of their own, of batch 0 into buffer 0; `then`
  // runs within that step.
  void Run(absl::FunctionRef<void()> then) {
    LmHeadArgs head = layer_.lm_head();
    const Batch reference = batches_[1].View();
    layer_.backend().Execute({}, reference, [&] {
      layer_.Append(Call::kEmbed, 0);
      head.buffer = 1;
      layer_.backend().LmHead(head);
    });
    ASSERT_TRUE(layer_.backend().Synchronize().ok());
    logits_ = layer_.Run(batches_[0].View(), {{Call::kEmbed, Call::kLmHead}}, 1, then);
    reference_ = layer_.Copy(Activation::kReferenceLogits, (kRows - 1) * kSpec.vocab);
  }

  std::span<const float> Row(const std::vector<float>& logits, int index) const {
    return std::span(logits).subspan(index * kSpec.vocab, kSpec.vocab);
  }

  // Of a log-probability: a sum of `vocab` exponentials in any order, each of a rounded argument.
  double Tolerance() const {
    double largest = 0;
    for (const float logit : logits_) largest = std::max<double>(largest, std::fabs(logit));
    for (const float logit : reference_) largest = std::max<double>(largest, std::fabs(logit));
    return (kSpec.vocab + 8 + 4 * largest) * GetParam().precision.accumulate;
  }

  void ExpectSame(const TopLogprobs& expected, const TopLogprobs& actual) const {
    ASSERT_EQ(expected.count, actual.count);
    for (int i = 0; i < expected.count; ++i) {
      EXPECT_EQ(expected.entries[i].id, actual.entries[i].id);
      EXPECT_NEAR(expected.entries[i].logprob, actual.entries[i].logprob, Tolerance());
    }
  }

  LayerOnBackend layer_;
  BatchArrays batches_[2];
  std::vector<float> logits_, reference_;
};

TEST_P(SamplingConformanceTest, SampleDrawsWhatTheRowFunctionDraws) {
  const std::vector<TokenCount> counts = {{3, 1, 2}, {50, 0, 4}, {200, 7, 0}};
  const std::vector<LogitBias> biases = {{7, 4.0f}, {9, -100.0f}};
  const std::vector<int32_t> banned = {0, 1, 2, 3};
  const std::vector<SampleRow> rows = {
      {.logit_index = 0},
      {.logit_index = 7, .top_logprobs = 5},
      {.logit_index = 1, .temperature = 1, .seed = 5, .position = 11, .top_logprobs = 0},
      {.logit_index = 2, .temperature = 0.8f, .top_k = 5, .seed = 6},
      {.logit_index = 3, .temperature = 1.5f, .top_p = 0.7f, .seed = 7, .top_logprobs = 20},
      {.logit_index = 4, .temperature = 1, .min_p = 0.2f, .seed = 8},
      {.logit_index = 5,
       .temperature = 0.5f,
       .frequency_penalty = 0.5f,
       .presence_penalty = 0.25f,
       .repetition_penalty = 1.3f,
       .seed = 9,
       .counts = counts},
      {.logit_index = 6, .temperature = 2, .seed = 10, .biases = biases, .banned = banned},
      {.logit_index = 6, .temperature = 2, .seed = 11, .top_logprobs = 3, .banned = banned},
  };
  std::vector<SampleResult> results(rows.size());
  Run([&] { layer_.backend().Sample(rows, results); });
  SampleScratch scratch;
  scratch.Reserve(kSpec.vocab);
  for (size_t i = 0; i < rows.size(); ++i) {
    SCOPED_TRACE(i);
    const SampleResult expected =
        SampleRowFromLogits(Row(logits_, rows[i].logit_index), rows[i], &scratch);
    EXPECT_EQ(results[i].status, expected.status);
    EXPECT_EQ(results[i].id, expected.id);
    EXPECT_NEAR(results[i].logprob, expected.logprob, Tolerance());
    ExpectSame(expected.top, results[i].top);
  }
}

TEST_P(SamplingConformanceTest, ScoreComparesTheTwoBuffersAcrossSteps) {
  std::vector<ScoreRow> rows;
  for (int i = 0; i < kRows - 1; ++i) {
    rows.push_back({.logit_index = (i * 3) % (kRows - 1), .target = i * 17, .top_logprobs = i % 4});
  }
  for (const int reference_buffer : {-1, 1}) {
    std::vector<ScoreResult> results(rows.size());
    Run([&] {
      layer_.backend().Score({.buffer = 0,
                              .reference_buffer = reference_buffer,
                              .overlap_k = 10,
                              .rows = rows,
                              .results = results});
    });
    SampleScratch scratch;
    scratch.Reserve(kSpec.vocab);
    for (size_t i = 0; i < rows.size(); ++i) {
      SCOPED_TRACE(i);
      const int index = rows[i].logit_index;
      const std::span<const float> none;
      const ScoreResult expected = ScoreRowFromLogits(
          Row(logits_, index), reference_buffer < 0 ? none : Row(reference_, index), rows[i], 10,
          &scratch);
      EXPECT_EQ(results[i].status, expected.status);
      EXPECT_EQ(results[i].top1, expected.top1);
      EXPECT_EQ(results[i].reference_top1, expected.reference_top1);
      EXPECT_EQ(results[i].top_k_overlap, expected.top_k_overlap);
      EXPECT_NEAR(results[i].logprob, expected.logprob, Tolerance());
      EXPECT_NEAR(results[i].margin, expected.margin, Tolerance());
      EXPECT_NEAR(results[i].reference_logprob, expected.reference_logprob, Tolerance());
      EXPECT_NEAR(results[i].reference_margin, expected.reference_margin, Tolerance());
      EXPECT_NEAR(results[i].kl_from_reference, expected.kl_from_reference, 2 * Tolerance());
      EXPECT_NEAR(results[i].kl_to_reference, expected.kl_to_reference, 2 * Tolerance());
      ExpectSame(expected.top, results[i].top);
      if (reference_buffer >= 0) {
        EXPECT_GT(results[i].kl_from_reference, 0);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, SamplingConformanceTest,
                         ::testing::ValuesIn(BackendsUnderTest()),
                         [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace vernier::testing
