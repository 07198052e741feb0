// Runs of hundreds of rows through heads and attention in 16 bits, against the reference backend:
// what passes through several tiles of keys, which the batches of conformance_test.cc are too short
// for.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/backends_under_test.h"
#include "tests/kernels/layer_on_backend.h"
#include "tests/kernels/layer_values.h"
#include "tests/kernels/paged_batch.h"

namespace vernier::testing {
namespace {

constexpr int64_t kContext = 256;
constexpr int64_t kMaxRows = 640;

struct SequenceShape {
  int history;
  int rows;
};
// Whole prompts of several tiles, prompts that go on behind a cached prefix, decode rows among
// them, and ends inside of blocks and of tiles; then no decode rows.
const std::vector<SequenceShape> kBatches[] = {
    {{0, 150}, {140, 50}, {255, 1}, {127, 2}, {0, 33}, {31, 1}},
    {{64, 70}, {0, 128}, {3, 2}, {225, 31}},
};

constexpr AttentionShape kShapes[] = {
    {.num_heads = 9, .num_kv_heads = 3, .head_dim = 64},
    {.num_heads = 5, .num_kv_heads = 5, .head_dim = 64, .window = 130},
    {.num_heads = 8, .num_kv_heads = 2, .head_dim = 128},
    {.num_heads = 7, .num_kv_heads = 1, .head_dim = 128, .window = 97},
};

// Half a step of what is rounded, relative to what is usual among the values.
double UnitOf(FormatId format, KvType kv_type) {
  const double format_unit = format == FormatId::kBF16 ? 0x1p-8 : 0x1p-11;
  const double kv_unit = kv_type == KvType::kInt8   ? 0.5 / 127  // of the largest
                         : kv_type == KvType::kBF16 ? 0x1p-8
                                                    : 0x1p-11;
  return std::max(format_unit, kv_unit);
}

struct Sixteens {
  FormatId format;
  KvType kv_type;
};

class LongPrefillTest : public ::testing::TestWithParam<std::tuple<BackendUnderTest, Sixteens>> {};

// Rows of `width` values, each within `most` of what is usual among all of them.
void ExpectRowsWithin(double most, size_t width, const std::vector<float>& expected,
                      const std::vector<float>& actual) {
  ASSERT_EQ(expected.size(), actual.size());
  double squares = 0;
  for (const float value : expected) squares += static_cast<double>(value) * value;
  const double usual = std::sqrt(squares / static_cast<double>(expected.size()));
  for (size_t row = 0; row < expected.size() / width; ++row) {
    double errors = 0;
    for (size_t i = row * width; i < (row + 1) * width; ++i) {
      errors += std::pow(static_cast<double>(actual[i]) - expected[i], 2);
    }
    const double error = std::sqrt(errors / static_cast<double>(width));
    // Negated, so that what is no number fails.
    ASSERT_FALSE(!(error <= most * usual))
        << "row " << row << " differs by " << error << ", values are " << usual;
  }
}

// x, products, q, k, v, weights and results are each rounded once: eight units of a value in all,
// were they independent, and sixteen where all go one way.
TEST_P(LongPrefillTest, TilesOfKeysAreAttendedAsOne) {
  const auto& [under_test, sixteens] = GetParam();
  const auto [format, kv_type] = sixteens;
  if (!Make(under_test.options)->HasKvType(kv_type)) {
    GTEST_SKIP() << under_test.name << " has no cache of " << KvTypeName(kv_type);
  }
  const double unit = UnitOf(format, kv_type);
  // A CPU has one way for all heads, which conformance_test.cc tries; the reference is slow.
  const bool all = under_test.options.kind == "cuda";
  for (const AttentionShape& shape : std::span(kShapes).first(all ? std::size(kShapes) : 1)) {
    const LayerSpec spec{.name = "long prompts",
                         .hidden = 64,
                         .intermediate = 64,
                         .vocab = 97,
                         .attention = shape,
                         .kv_type = kv_type,
                         .rotated = shape.head_dim,
                         .gate = true,
                         .biases = shape.window > 0,
                         .head_norms = shape.num_heads == 8};
    const LayerValues values = MakeLayer(spec, format, kContext);
    for (const std::vector<SequenceShape>& shapes : kBatches) {
      SCOPED_TRACE(::testing::Message()
                   << shape.num_heads << " heads of " << shape.head_dim << ", window "
                   << shape.window << ", " << shapes.size() << " sequences");
      std::vector<int> lengths;
      for (const SequenceShape& each : shapes) lengths.push_back(each.history + each.rows);
      const std::vector<PagedSequence> sequences = MakeSequences(lengths, spec.vocab);
      const int64_t blocks = PoolBlocks(sequences);
      LayerOnBackend reference(Make({.kind = "reference"}), values, kMaxRows, blocks);
      LayerOnBackend tested(Make(under_test.options), values, kMaxRows, blocks);
      tested.Poison(blocks);
      BatchArrays history, batch;
      for (size_t i = 0; i < shapes.size(); ++i) {
        AppendRows(sequences[i], 0, shapes[i].history, &history);
        AppendRows(sequences[i], shapes[i].history, lengths[i], &batch);
      }
      constexpr Call kFill[] = {Call::kEmbed, Call::kAttentionIn};
      constexpr Call kAttend[] = {Call::kEmbed, Call::kAttentionIn, Call::kAttention};
      std::vector<float> results[2];
      for (LayerOnBackend* layer : {&reference, &tested}) {
        layer->Run(history.View(), kFill);
        results[layer == &tested] = layer->Run(batch.View(), kAttend);
      }
      ExpectRowsWithin(16 * unit, static_cast<size_t>(shape.num_heads) * shape.head_dim, results[0],
                       results[1]);
      if (HasFatalFailure()) return;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Backends, LongPrefillTest,
    ::testing::Combine(::testing::ValuesIn(BackendsUnderTest()),
                       ::testing::Values(Sixteens{FormatId::kF16, KvType::kF16},
                                         Sixteens{FormatId::kF16, KvType::kInt8},
                                         Sixteens{FormatId::kBF16, KvType::kBF16})),
    [](const auto& param) {
      const Sixteens& sixteens = std::get<1>(param.param);
      std::string name = std::string(std::get<0>(param.param).name) + "_" +
                         FormatOf(sixteens.format).name + "_" + KvTypeName(sixteens.kv_type);
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });

class ManyRowsTest : public ::testing::TestWithParam<std::tuple<BackendUnderTest, FormatId>> {};

// Thousands of rows, of which weights may be multiplied otherwise than of few. x, gate, up, the
// decoded weights and the result are rounded once each, NF4's weights twice.
TEST_P(ManyRowsTest, ProductsOfThousandsOfRowsAreThoseOfFew) {
  const auto& [under_test, format] = GetParam();
  constexpr int kRows = 4160;  // some past 4,096
  const LayerSpec spec{.name = "many rows",
                       .hidden = 128,
                       .intermediate = 192,
                       .vocab = 97,
                       .attention = {.num_heads = 1, .num_kv_heads = 1, .head_dim = 64},
                       .gate = true};
  const LayerValues values = MakeLayer(spec, format, kRows);
  const std::vector<PagedSequence> sequences = MakeSequences({{kRows}}, spec.vocab);
  BatchArrays batch;
  AppendRows(sequences[0], 0, kRows, &batch);
  const bool whole = under_test.precision.digit > 0 && Precision::IsNf4(format);
  std::vector<float> results[2];
  for (const bool tested : {false, true}) {
    const BackendOptions options =
        tested ? under_test.options : BackendOptions{.kind = "reference"};
    LayerOnBackend layer(Make(options), tested || !whole ? values : Nf4AsWholeNumbers(values),
                         kRows, PoolBlocks(sequences));
    constexpr Call kCalls[] = {Call::kEmbed, Call::kMlpIn};
    results[tested] = layer.Run(batch.View(), kCalls);
  }
  ExpectRowsWithin(8 * UnitOf(format, KvType::kF32), static_cast<size_t>(spec.intermediate),
                   results[0], results[1]);
}

INSTANTIATE_TEST_SUITE_P(Backends, ManyRowsTest,
                         ::testing::Combine(::testing::ValuesIn(BackendsUnderTest()),
                                            ::testing::Values(FormatId::kF16, FormatId::kBF16,
                                                              FormatId::kInt8, FormatId::kNf4)),
                         [](const auto& param) {
                           return std::string(std::get<0>(param.param).name) + "_" +
                                  FormatOf(std::get<1>(param.param)).name;
                         });

}  // namespace
}  // namespace vernier::testing
