// Every call of the backend door, in every format and at awkward shapes, against the reference
// backend.
//
// A backend joins in backends_under_test.h, a format in kFormats; nothing else changes.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "absl/functional/function_ref.h"
#include "gtest/gtest.h"
#include "kernels/sample_row.h"
#include "tests/kernels/backends_under_test.h"
#include "tests/kernels/error_model.h"
#include "tests/kernels/layer_on_backend.h"
#include "tests/kernels/layer_values.h"
#include "tests/kernels/paged_batch.h"

namespace vernier::testing {
namespace {

constexpr FormatId kFormats[] = {FormatId::kF32,  FormatId::kF16, FormatId::kBF16,
                                 FormatId::kInt8, FormatId::kNf4, FormatId::kNf4Dq};

// Each after a family of models, most with sizes that fill no panel, chunk or NF4 block; one fills
// the tiles of matrix units. The cache is fp32: the 16-bit types have a test of their own.
const LayerSpec kSpecs[] = {
    {.name = "llama",
     .hidden = 96,
     .intermediate = 160,
     .vocab = 131,
     .attention = {.num_heads = 6, .num_kv_heads = 2, .head_dim = 16},
     .rotated = 16,
     .gate = true},
    {.name = "qwen2: biases, one kv head",
     .hidden = 65,
     .intermediate = 101,
     .vocab = 77,
     .attention = {.num_heads = 4, .num_kv_heads = 1, .head_dim = 20},
     .rotated = 20,
     .gate = true,
     .biases = true},
    {.name = "qwen3: norms of heads, wide attention",
     .hidden = 64,
     .intermediate = 128,
     .vocab = 64,
     .attention = {.num_heads = 4, .num_kv_heads = 2, .head_dim = 32, .scale = 0.06f},
     .rotated = 32,
     .gate = true,
     .head_norms = true},
    {.name = "gemma: scaled embedding, post norms, window of 5, soft cap, GeGLU",
     .hidden = 70,
     .intermediate = 90,
     .vocab = 51,
     .attention = {.num_heads = 2, .num_kv_heads = 1, .head_dim = 256, .scale = 0.03f, .window = 5},
     .activation = ActivationKind::kGeluTanh,
     .rotated = 256,
     .gate = true,
     .post_norms = true,
     .embed_scale = 8.375f,
     .soft_cap = 3},
    {.name = "gpt2: layer norms, learned positions, no gate",
     .hidden = 37,
     .intermediate = 53,
     .vocab = 67,
     .attention = {.num_heads = 3, .num_kv_heads = 3, .head_dim = 4},
     .norm = NormKind::kLayer,
     .activation = ActivationKind::kGeluTanh,
     .biases = true,
     .learned_positions = true},
    {.name = "exact GELU, window of 40",
     .hidden = 129,
     .intermediate = 63,
     .vocab = 9,
     .attention = {.num_heads = 5, .num_kv_heads = 5, .head_dim = 6, .window = 40},
     .norm = NormKind::kLayer,
     .activation = ActivationKind::kGeluErf,
     .rotated = 6},
    {.name = "part of a head rotated, window of 1",
     .hidden = 50,
     .intermediate = 65,
     .vocab = 130,
     .attention = {.num_heads = 3, .num_kv_heads = 3, .head_dim = 96, .window = 1},
     .activation = ActivationKind::kGeluErf,
     .rotated = 24,
     .gate = true},
    {.name = "multiples of 64",
     .hidden = 128,
     .intermediate = 192,
     .vocab = 160,
     .attention = {.num_heads = 4, .num_kv_heads = 2, .head_dim = 64, .scale = 0.08f},
     .rotated = 64,
     .gate = true},
    {.name = "heads of 128",
     .hidden = 127,
     .intermediate = 192,
     .vocab = 33,
     .attention = {.num_heads = 4, .num_kv_heads = 1, .head_dim = 128},
     .rotated = 128,
     .gate = true},
};

// Rows of one batch: sequences that hold `history` tokens and get `rows` more.
struct SequenceShape {
  int history;
  int rows;
};
// Decode rows, prefill whole, prefill continued; blocks just full, just begun and partly full.
const std::vector<SequenceShape> kBatches[] = {
    {{40, 1}},                                                              // 1 row
    {{0, 1}, {63, 1}},                                                      // 2
    {{31, 3}},                                                              // 3
    {{0, 5}, {32, 1}, {17, 1}},                                             // 7
    {{5, 9}, {64, 1}, {0, 3}, {31, 1}, {1, 1}, {30, 2}},                    // 17
    {{20, 21}, {0, 4}, {33, 1}, {2, 1}, {3, 1}, {31, 1}, {32, 1}, {7, 3}},  // 33
};
constexpr int64_t kContext = 96;
constexpr int64_t kMaxRows = 192;
constexpr int64_t kPoolBlocks = 13;

// A layer on the reference and on the backend under test, and the two batches that run on both:
// `history` fills the cache, `batch` is what is compared.
struct Pair {
  const LayerValues& values;
  LayerOnBackend& reference;
  LayerOnBackend& tested;
  const ErrorModel& errors;
  Batch history, batch;
  bool cache_is_new;
};

// Runs `body` for every batch on a layer.
void ForEachBatch(const BackendUnderTest& under_test, const LayerValues& values,
                  absl::FunctionRef<void(const Pair&)> body) {
  const Precision& precision = under_test.PrecisionOf(values.format, values.spec.kv_type);
  const ErrorModel errors(precision, values.format);
  const LayerValues expected =
      precision.digit > 0 && Precision::IsNf4(values.format) ? Nf4AsWholeNumbers(values) : values;
  LayerOnBackend reference(Make({.kind = "reference"}), expected, kMaxRows, kPoolBlocks);
  LayerOnBackend tested(Make(under_test.options), values, kMaxRows, kPoolBlocks);
  bool is_new = true;
  for (const std::vector<SequenceShape>& shapes : kBatches) {
    std::vector<int> lengths;
    for (const SequenceShape& shape : shapes) lengths.push_back(shape.history + shape.rows);
    const std::vector<PagedSequence> sequences = MakeSequences(lengths, values.spec.vocab);
    ASSERT_LE(PoolBlocks(sequences), kPoolBlocks);
    BatchArrays history, batch;
    for (size_t i = 0; i < shapes.size(); ++i) {
      AppendRows(sequences[i], 0, shapes[i].history, &history);
      AppendRows(sequences[i], shapes[i].history, lengths[i], &batch);
    }
    for (int row = 0; row < static_cast<int>(batch.ids.size()); ++row) {
      if (row % 3 != 1) batch.logit_rows.push_back(row);
    }
    SCOPED_TRACE(::testing::Message() << values.spec.name << ", " << batch.ids.size() << " rows");
    body({expected, reference, tested, errors, history.View(), batch.View(), is_new});
    if (::testing::Test::HasFatalFailure()) return;
    is_new = false;
  }
}

// Fills the cache with the history, after what is no number has been in every slot.
void FillCache(const Pair& pair) {
  if (pair.cache_is_new) pair.tested.Poison(kPoolBlocks);
  constexpr Call kFill[] = {Call::kEmbed, Call::kAttentionIn};
  for (LayerOnBackend* layer : {&pair.reference, &pair.tested}) {
    if (pair.history.num_rows > 0) layer->Run(pair.history, kFill);
  }
}

// Every value within `error`, and the error small enough to mean something: a wrong scale, slot or
// position moves values by about as much as they are.
void ExpectWithin(const Pair& pair, double error, const std::vector<float>& expected,
                  const std::vector<float>& actual) {
  ASSERT_EQ(expected.size(), actual.size());
  double squares = 0, error_squares = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_TRUE(std::isfinite(expected[i]));
    // Negated, so that what is no number fails.
    ASSERT_FALSE(!(std::fabs(static_cast<double>(actual[i]) - expected[i]) <= error))
        << "value " << i << " of " << actual.size() << " is " << actual[i] << ", the reference has "
        << expected[i] << ", bound " << error;
    squares += static_cast<double>(expected[i]) * expected[i];
    error_squares += std::pow(static_cast<double>(actual[i]) - expected[i], 2);
  }
  const double typical = std::sqrt(squares / static_cast<double>(expected.size()));
  const Precision& precision = pair.errors.precision();
  if (precision.largest_rms_error > 0) {
    EXPECT_LE(std::sqrt(error_squares / static_cast<double>(expected.size())),
              precision.largest_rms_error * typical);
  } else {
    EXPECT_LE(error, precision.largest_bound * typical) << "the bound says nothing";
  }
}

void ExpectCall(const Pair& pair, std::span<const Call> calls, double error) {
  ExpectWithin(pair, error, pair.reference.Run(pair.batch, calls),
               pair.tested.Run(pair.batch, calls));
}

// ---- What the calls make, in double and with its bound ----

Tracked TrackResidual(const Pair& pair, const Batch& batch) {
  constexpr Call kEmbed[] = {Call::kEmbed};
  Tracked residual = Track(pair.reference.Run(batch, kEmbed), pair.values.spec.hidden, 0);
  residual.error = pair.errors.EmbedError(pair.values, residual.Largest());
  return residual;
}

// Heads of every row whose keys the batch can see.
struct TrackedHeads {
  Tracked q, k, v;
};

TrackedHeads TrackAttentionIn(const Pair& pair) {
  const LayerValues& values = pair.values;
  Tracked residual = TrackResidual(pair, pair.batch);
  if (pair.history.num_rows > 0) {
    const Tracked before = TrackResidual(pair, pair.history);
    residual.values.insert(residual.values.end(), before.values.begin(), before.values.end());
    residual.error = std::max(residual.error, before.error);
  }
  const Tracked x = pair.errors.Norm(values.attention_norm, residual);
  TrackedHeads heads{pair.errors.Product(values.q, x), pair.errors.Product(values.k, x),
                     pair.errors.Product(values.v, x)};
  if (values.spec.head_norms) {
    heads.q = pair.errors.Norm(values.q_norm, heads.q);
    heads.k = pair.errors.Norm(values.k_norm, heads.k);
  }
  if (values.spec.rotated > 0) {
    pair.errors.Rotate(kContext, &heads.q);
    pair.errors.Rotate(kContext, &heads.k);
  }
  return heads;
}

double AttentionError(const Pair& pair) {
  const TrackedHeads heads = TrackAttentionIn(pair);
  const AttentionShape& shape = pair.values.spec.attention;
  const int64_t keys = shape.window > 0 ? shape.window : kContext;
  return pair.errors.AttentionError(shape, keys, heads.q, heads.k, heads.v);
}

// Of residual += post_norm(linear(input)).
double AddedError(const Pair& pair, const Tracked& residual, const MatrixValues& linear,
                  const NormValues& post_norm, const Tracked& input) {
  Tracked update = pair.errors.Product(linear, input);
  if (!post_norm.weight.empty()) update = pair.errors.Norm(post_norm, update);
  return pair.errors.ResidualError(residual, update);
}

double MlpInError(const Pair& pair) {
  const LayerValues& values = pair.values;
  const Tracked x = pair.errors.Norm(values.mlp_norm, TrackResidual(pair, pair.batch));
  const Tracked up = pair.errors.Product(values.up, x);
  if (!values.spec.gate) return pair.errors.ActivationError(values.spec.activation, up, nullptr);
  return pair.errors.ActivationError(values.spec.activation, pair.errors.Product(values.gate, x),
                                     &up);
}

// ---- The calls ----

class ConformanceTest : public ::testing::TestWithParam<std::tuple<BackendUnderTest, FormatId>> {
 protected:
  void SetUp() override {
    const auto& [under_test, format] = GetParam();
    if (under_test.options.fast_prefill && FormatOf(format).bits < 16) {
      GTEST_SKIP() << "multiplied as without fast_prefill";
    }
  }

  // Runs `body` for every layer and batch; a `window` from 0 replaces the layer's.
  void ForEach(absl::FunctionRef<void(const Pair&)> body, int window = -1) const {
    const auto& [under_test, format] = GetParam();
    for (LayerSpec spec : kSpecs) {
      if (window >= 0) spec.attention.window = window;
      ForEachBatch(under_test, MakeLayer(spec, format, kContext), body);
    }
  }
};

TEST_P(ConformanceTest, EmbedDecodesRows) {
  ForEach([](const Pair& pair) {
    ExpectCall(pair, {{Call::kEmbed}}, TrackResidual(pair, pair.batch).error);
  });
}

TEST_P(ConformanceTest, AttentionInMakesQueries) {
  ForEach([](const Pair& pair) {
    ExpectCall(pair, {{Call::kEmbed, Call::kAttentionIn}}, TrackAttentionIn(pair).q.Bound());
  });
}

// Also what AttentionIn wrote: keys and values are seen through it alone.
TEST_P(ConformanceTest, AttentionReadsThePagedCache) {
  ForEach([](const Pair& pair) {
    const double error = AttentionError(pair);
    FillCache(pair);
    ExpectCall(pair, {{Call::kEmbed, Call::kAttentionIn, Call::kAttention}}, error);
  });
}

// With a window of one token a is v, so that the softmax's bound is not in the way.
TEST_P(ConformanceTest, AttentionOutAddsToTheResidual) {
  ForEach(
      [](const Pair& pair) {
        const double a_error = AttentionError(pair);
        FillCache(pair);
        const std::vector<float> a =
            pair.reference.Run(pair.batch, {{Call::kEmbed, Call::kAttentionIn, Call::kAttention}});
        const double error = AddedError(pair, TrackResidual(pair, pair.batch), pair.values.o,
                                        pair.values.attention_post_norm,
                                        Track(a, pair.values.QueryWidth(), a_error));
        ExpectCall(pair,
                   {{Call::kEmbed, Call::kAttentionIn, Call::kAttention, Call::kAttentionOut}},
                   error);
      },
      /*window=*/1);
}

TEST_P(ConformanceTest, MlpInGatesAndActivates) {
  ForEach([](const Pair& pair) {
    ExpectCall(pair, {{Call::kEmbed, Call::kMlpIn}}, MlpInError(pair));
  });
}

TEST_P(ConformanceTest, MlpOutAddsToTheResidual) {
  ForEach([](const Pair& pair) {
    const std::vector<float> h = pair.reference.Run(pair.batch, {{Call::kEmbed, Call::kMlpIn}});
    const double error = AddedError(pair, TrackResidual(pair, pair.batch), pair.values.down,
                                    pair.values.mlp_post_norm,
                                    Track(h, pair.values.spec.intermediate, MlpInError(pair)));
    ExpectCall(pair, {{Call::kEmbed, Call::kMlpIn, Call::kMlpOut}}, error);
  });
}

TEST_P(ConformanceTest, LmHeadMakesTheLogitsOfChosenRows) {
  ForEach([](const Pair& pair) {
    const Tracked x = pair.errors.Norm(pair.values.final_norm, TrackResidual(pair, pair.batch));
    const Tracked y = pair.errors.Product(pair.values.head, x);
    const float cap = pair.values.spec.soft_cap;
    const double error = cap > 0 ? pair.errors.SoftCapError(y, cap) : y.Bound();
    ExpectCall(pair, {{Call::kEmbed, Call::kLmHead}}, error);
  });
}

// What is fused across calls is seen by whole steps alone. Their errors have no derived bound: this
// much of the logits' root mean square is some roundings of each call, and what is wrong is more.
TEST_P(ConformanceTest, WholeStepsMakeTheReferencesLogits) {
  ForEach([](const Pair& pair) {
    const Precision& precision = pair.errors.precision();
    const double unit =
        std::max({precision.activation, precision.weight, precision.product, precision.digit});
    std::vector<float> logits[2];
    int i = 0;
    for (LayerOnBackend* layer : {&pair.reference, &pair.tested}) {
      if (pair.history.num_rows > 0) layer->Run(pair.history, kAllCalls, LayerOnBackend::kLayers);
      logits[i++] = layer->Run(pair.batch, kAllCalls, LayerOnBackend::kLayers);
    }
    ASSERT_EQ(logits[0].size(), logits[1].size());
    double squares = 0, errors = 0;
    for (size_t at = 0; at < logits[0].size(); ++at) {
      squares += std::pow(static_cast<double>(logits[0][at]), 2);
      errors += std::pow(static_cast<double>(logits[1][at]) - logits[0][at], 2);
    }
    // Negated, so that what is no number fails.
    EXPECT_FALSE(!(std::sqrt(errors / squares) <= 1e-3 + 16 * unit))
        << "differs by " << std::sqrt(errors / squares) << " of its size";
  });
}

// A backend may record a step and replay it (kernels/backend.h): decode steps that differ in their
// tokens, positions and slots alone must each give what they gave when nothing was recorded.
TEST_P(ConformanceTest, RepeatedDecodeStepsKeepApart) {
  const auto& [under_test, format] = GetParam();
  for (const LayerSpec& spec : kSpecs) {
    SCOPED_TRACE(spec.name);
    const LayerValues values = MakeLayer(spec, format, kContext);
    LayerOnBackend layer(Make(under_test.options), values, kMaxRows, kPoolBlocks);
    const int lengths[] = {41, 9, 66, 32};
    const std::vector<PagedSequence> sequences = MakeSequences(lengths, spec.vocab);
    ASSERT_LE(PoolBlocks(sequences), kPoolBlocks);
    BatchArrays history, steps[2];
    for (int i = 0; i < 4; ++i) {
      AppendRows(sequences[i], 0, lengths[i] - 1, &history);
      AppendRows(sequences[i], lengths[i] - 1, lengths[i], &steps[i / 2]);
    }
    layer.Run(history.View(), kAllCalls, LayerOnBackend::kLayers);
    std::vector<float> first[2];
    for (int repeat = 0; repeat < 4; ++repeat) {
      for (int i = 0; i < 2; ++i) {
        steps[i].logit_rows = {0, 1};
        const std::vector<float> logits =
            layer.Run(steps[i].View(), kAllCalls, LayerOnBackend::kLayers);
        if (repeat == 0) first[i] = logits;
        ASSERT_EQ(first[i], logits) << "step " << i << ", repeat " << repeat;
      }
    }
    EXPECT_NE(first[0], first[1]);
  }
}

std::string NameOf(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Backends, ConformanceTest,
                         ::testing::Combine(::testing::ValuesIn(BackendsUnderTest()),
                                            ::testing::ValuesIn(kFormats)),
                         [](const auto& param) {
                           return NameOf(std::string(std::get<0>(param.param).name) + "_" +
                                         FormatOf(std::get<1>(param.param)).name);
                         });

// ---- The cache's types ----

class CacheConformanceTest : public ::testing::TestWithParam<std::tuple<BackendUnderTest, KvType>> {
};

// Keys and values that no summing order changes are rounded once, to nearest even, by the same
// scales, and what is read back is what was rounded: the bound is that of attention alone.
TEST_P(CacheConformanceTest, KeysAndValuesAreRoundedOnce) {
  const auto& [under_test, kv_type] = GetParam();
  if (!Make(under_test.options)->HasKvType(kv_type)) {
    GTEST_SKIP() << under_test.name << " has no cache of " << KvTypeName(kv_type);
  }
  constexpr AttentionShape kShapes[] = {
      {.num_heads = 3, .num_kv_heads = 3, .head_dim = 4},
      {.num_heads = 4, .num_kv_heads = 1, .head_dim = 5, .window = 33},
      {.num_heads = 4, .num_kv_heads = 2, .head_dim = 20, .window = 32},
      {.num_heads = 9, .num_kv_heads = 3, .head_dim = 64},
      {.num_heads = 2, .num_kv_heads = 2, .head_dim = 80},
      {.num_heads = 6, .num_kv_heads = 1, .head_dim = 96, .window = 7},
      {.num_heads = 7, .num_kv_heads = 1, .head_dim = 128},
      {.num_heads = 2, .num_kv_heads = 1, .head_dim = 256},
  };
  for (const AttentionShape& shape : kShapes) {
    const LayerSpec spec{.name = "exact keys and values",
                         .hidden = 48,
                         .intermediate = 16,
                         .vocab = 97,
                         .attention = shape,
                         .kv_type = kv_type,
                         .exact = true};
    ForEachBatch(under_test, MakeLayer(spec, FormatId::kF32, kContext), [](const Pair& pair) {
      SCOPED_TRACE(::testing::Message() << "head_dim " << pair.values.spec.attention.head_dim);
      TrackedHeads heads = TrackAttentionIn(pair);
      heads.q.error = heads.k.error = heads.v.error = 0;
      heads.k.relative = heads.v.relative = 0;
      const AttentionShape& attention = pair.values.spec.attention;
      const double error =
          pair.errors.AttentionError(attention, kContext, heads.q, heads.k, heads.v);
      FillCache(pair);
      ExpectCall(pair, {{Call::kEmbed, Call::kAttentionIn, Call::kAttention}}, error);
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, CacheConformanceTest,
                         ::testing::Combine(::testing::ValuesIn(BackendsUnderTest()),
                                            ::testing::Values(KvType::kF32, KvType::kF16,
                                                              KvType::kBF16, KvType::kInt8)),
                         [](const auto& param) {
                           return NameOf(std::string(std::get<0>(param.param).name) + "_" +
                                         KvTypeName(std::get<1>(param.param)));
                         });

}  // namespace
}  // namespace vernier::testing
