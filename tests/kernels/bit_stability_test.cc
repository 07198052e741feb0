// What the CPU backend promises: a row's result is the same bits alone or beside others, prefilled
// whole or in chunks, on one thread or two.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/backends_under_test.h"
#include "tests/kernels/layer_on_backend.h"
#include "tests/kernels/layer_values.h"
#include "tests/kernels/paged_batch.h"

namespace vernier::testing {
namespace {

constexpr FormatId kFormats[] = {FormatId::kF32,  FormatId::kF16, FormatId::kBF16,
                                 FormatId::kInt8, FormatId::kNf4, FormatId::kNf4Dq};

// The second has columns that no layout's chunk divides, and NF4 blocks that straddle rows; the
// third's heads are kept with scales.
const LayerSpec kSpecs[] = {
    {.name = "multiples of 64",
     .hidden = 128,
     .intermediate = 192,
     .vocab = 64,
     .attention = {.num_heads = 4, .num_kv_heads = 2, .head_dim = 32},
     .kv_type = KvType::kF16,
     .rotated = 32,
     .gate = true},
    {.name = "odd sizes",
     .hidden = 45,
     .intermediate = 77,
     .vocab = 35,
     .attention = {.num_heads = 3, .num_kv_heads = 1, .head_dim = 10, .window = 37},
     .kv_type = KvType::kBF16,
     .norm = NormKind::kLayer,
     .activation = ActivationKind::kGeluErf,
     .rotated = 10,
     .biases = true,
     .soft_cap = 5},
    {.name = "int8 cache",
     .hidden = 64,
     .intermediate = 64,
     .vocab = 35,
     .attention = {.num_heads = 4, .num_kv_heads = 2, .head_dim = 20, .window = 41},
     .kv_type = KvType::kInt8,
     .rotated = 20,
     .gate = true},
};
constexpr int kSequences = 32;
constexpr int64_t kContext = 96;
constexpr int64_t kMaxRows = 256;

int LengthOf(int sequence) { return sequence == 0 ? 83 : 1 + sequence * 11 % 40; }

// Logits of every position of every sequence, by (sequence, position).
using Results = std::map<std::pair<int, int>, std::vector<float>>;

class Runner {
 public:
  Runner(const BackendOptions& options, const LayerValues& values, Activations activations)
      : vocab_(values.spec.vocab),
        sequences_(MakeSequences(Lengths(), vocab_)),
        layer_(Make(options), values, kMaxRows, PoolBlocks(sequences_)) {
    layer_.SetActivations(activations);
  }

  struct Chunk {
    int sequence, first, last;  // positions [first, last)
  };
  // One step over the chunks.
  void Step(const std::vector<Chunk>& chunks, Results* results) {
    BatchArrays batch;
    std::vector<std::pair<int, int>> places;
    for (const Chunk& chunk : chunks) {
      AppendRows(sequences_[chunk.sequence], chunk.first, chunk.last, &batch);
      for (int p = chunk.first; p < chunk.last; ++p) places.push_back({chunk.sequence, p});
    }
    for (size_t i = 0; i < places.size(); ++i) batch.logit_rows.push_back(static_cast<int32_t>(i));
    const std::vector<float> logits = layer_.Run(batch.View(), kAllCalls, LayerOnBackend::kLayers);
    for (size_t i = 0; i < places.size(); ++i) {
      const auto* row = logits.data() + i * vocab_;
      (*results)[places[i]] = {row, row + vocab_};
    }
  }

  // Every sequence by itself, its prompt at once.
  Results Alone() {
    Results results;
    for (int i = 0; i < kSequences; ++i) Step({{i, 0, LengthOf(i)}}, &results);
    return results;
  }
  // Every sequence by itself, one token at a time.
  Results TokenByToken() {
    Results results;
    for (int i = 0; i < kSequences; ++i) {
      for (int p = 0; p < LengthOf(i); ++p) Step({{i, p, p + 1}}, &results);
    }
    return results;
  }
  // All sequences in each step, in chunks whose size differs by sequence and step: most are at
  // prefill while others decode.
  Results Together() {
    Results results;
    std::vector<int> done(kSequences);
    for (int step = 0;; ++step) {
      std::vector<Chunk> chunks;
      for (int i = 0; i < kSequences; ++i) {
        constexpr int kSizes[] = {1, 2, 3, 7, 1, 17, 5};
        const int last = std::min(LengthOf(i), done[i] + kSizes[(i + step) % 7]);
        if (done[i] < last) chunks.push_back({i, done[i], last});
        done[i] = last;
      }
      if (chunks.empty()) return results;
      Step(chunks, &results);
    }
  }

 private:
  static std::vector<int> Lengths() {
    std::vector<int> lengths;
    for (int i = 0; i < kSequences; ++i) lengths.push_back(LengthOf(i));
    return lengths;
  }

  const int64_t vocab_;
  const std::vector<PagedSequence> sequences_;
  LayerOnBackend layer_;
};

void ExpectSameBits(const Results& expected, const Results& actual, const char* what) {
  ASSERT_EQ(expected.size(), actual.size());
  for (const auto& [place, logits] : expected) {
    const auto found = actual.find(place);
    ASSERT_NE(found, actual.end());
    ASSERT_EQ(0, std::memcmp(logits.data(), found->second.data(), logits.size() * sizeof(float)))
        << what << ": sequence " << place.first << " position " << place.second;
  }
}

void ExpectStable(BackendOptions options, const LayerValues& values, Activations activations) {
  options.threads = 1;
  Runner one(options, values, activations);
  const Results alone = one.Alone();
  ExpectSameBits(alone, one.TokenByToken(), "token by token");
  ExpectSameBits(alone, one.Together(), "32 sequences in chunks");
  options.threads = 2;
  Runner two(options, values, activations);
  ExpectSameBits(alone, two.Together(), "32 sequences in chunks, 2 threads");
  ExpectSameBits(alone, two.Alone(), "2 threads");
}

class BitStabilityTest : public ::testing::TestWithParam<std::tuple<BackendUnderTest, FormatId>> {};

TEST_P(BitStabilityTest, ARowDoesNotDependOnBatchChunksOrThreads) {
  const auto& [under_test, format] = GetParam();
  for (const LayerSpec& spec : kSpecs) {
    SCOPED_TRACE(spec.name);
    ExpectStable(under_test.options, MakeLayer(spec, format, kContext), Activations::kFull);
  }
}

std::vector<BackendUnderTest> StableBackends() {
  std::vector<BackendUnderTest> backends = BackendsUnderTest();
  std::erase_if(backends, [](const auto& backend) { return backend.options.fast_prefill; });
  return backends;
}

std::vector<BackendUnderTest> CpuBackends() {
  std::vector<BackendUnderTest> backends = StableBackends();
  std::erase_if(backends, [](const auto& backend) { return backend.options.kind != "cpu"; });
  return backends;
}

INSTANTIATE_TEST_SUITE_P(Cpu, BitStabilityTest,
                         ::testing::Combine(::testing::ValuesIn(CpuBackends()),
                                            ::testing::ValuesIn(kFormats)),
                         [](const auto& param) {
                           std::string name = std::string(std::get<0>(param.param).name) + "_" +
                                              FormatOf(std::get<1>(param.param)).name;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

class RoundedBitStabilityTest : public ::testing::TestWithParam<BackendUnderTest> {};

TEST_P(RoundedBitStabilityTest, ARowOfBf16ActivationsDoesNotEither) {
  for (const LayerSpec& spec : kSpecs) {
    SCOPED_TRACE(spec.name);
    ExpectStable(GetParam().options, MakeLayer(spec, FormatId::kBF16, kContext),
                 Activations::kBF16);
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, RoundedBitStabilityTest, ::testing::ValuesIn(CpuBackends()),
                         [](const auto& param) { return std::string(param.param.name); });

// What fast_prefill gives up, and what not.
class FastPrefillTest : public ::testing::TestWithParam<FormatId> {};

TEST_P(FastPrefillTest, OnlyFewRowsOfWideWeightsHaveOtherBits) {
  const BackendOptions stable{.kind = "cpu", .isa = "amx", .threads = 2};
  if (!MakeBackend(stable).ok()) GTEST_SKIP() << "no AMX";
  BackendOptions fast = stable;
  fast.fast_prefill = true;
  const LayerValues values = MakeLayer(kSpecs[0], GetParam(), kContext);
  Runner one(stable, values, Activations::kFull), other(fast, values, Activations::kFull);
  Results expected, actual;
  one.Step({{0, 0, LengthOf(0)}}, &expected);
  other.Step({{0, 0, LengthOf(0)}}, &actual);
  ExpectSameBits(expected, actual, "prefill");
  const bool wide = FormatOf(GetParam()).bits >= 16;
  for (int p = 0; p < LengthOf(0); ++p) other.Step({{0, p, p + 1}}, &actual);
  if (!wide) return ExpectSameBits(expected, actual, "token by token");
  EXPECT_NE(expected, actual);
}

INSTANTIATE_TEST_SUITE_P(Formats, FastPrefillTest,
                         ::testing::Values(FormatId::kF32, FormatId::kF16, FormatId::kBF16,
                                           FormatId::kInt8, FormatId::kNf4),
                         [](const auto& param) { return FormatOf(param.param).name; });

// A context of several segments of attention, which threads share where one token is decoded.
class LongContextTest : public ::testing::TestWithParam<BackendUnderTest> {
 protected:
  static constexpr int kLength = 560, kDecoded = 10;
  static constexpr int64_t kPrefillRows = 256;

  // Logits of the last kDecoded positions, which come in steps of `rows`.
  static std::vector<float> Last(const BackendOptions& options, const LayerValues& values,
                                 int rows) {
    const std::vector<PagedSequence> sequences =
        MakeSequences(std::vector<int>{kLength}, values.spec.vocab);
    LayerOnBackend layer(Make(options), values, kPrefillRows, PoolBlocks(sequences));
    std::vector<float> result;
    for (int first = 0; first < kLength;) {
      const bool decoding = first >= kLength - kDecoded;
      const int end = decoding ? kLength : kLength - kDecoded;
      const int last = std::min(end, first + (decoding ? rows : static_cast<int>(kPrefillRows)));
      BatchArrays batch;
      AppendRows(sequences[0], first, last, &batch);
      if (decoding) {
        for (int i = 0; i < last - first; ++i) batch.logit_rows.push_back(i);
      }
      const std::vector<float> logits = layer.Run(batch.View(), kAllCalls, LayerOnBackend::kLayers);
      if (decoding) result.insert(result.end(), logits.begin(), logits.end());
      first = last;
    }
    return result;
  }
};

TEST_P(LongContextTest, SegmentsAreTheSameBitsWhoeverSumsThem) {
  for (const LayerSpec& spec : kSpecs) {
    SCOPED_TRACE(spec.name);
    LayerSpec wide = spec;
    if (wide.attention.window > 0) wide.attention.window = 530;
    const LayerValues values = MakeLayer(wide, FormatId::kF32, kLength);
    BackendOptions options = GetParam().options;
    options.threads = 1;
    const std::vector<float> expected = Last(options, values, kDecoded);
    EXPECT_EQ(expected, Last(options, values, 1)) << "one thread, token by token";
    for (const int threads : {2, 3}) {
      options.threads = threads;
      EXPECT_EQ(expected, Last(options, values, 1)) << threads << " threads, token by token";
    }
    // Keys in the wrong segment, or one left out, would change logits by a good part of themselves;
    // rounding, that of the cache's scalars too, does so by less than a hundredth.
    const std::vector<float> reference = Last({.kind = "reference"}, values, kDecoded);
    float largest = 0, difference = 0;
    for (size_t i = 0; i < reference.size(); ++i) {
      largest = std::max(largest, std::fabs(reference[i]));
      difference = std::max(difference, std::fabs(reference[i] - expected[i]));
    }
    EXPECT_LE(difference, largest / 100);
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, LongContextTest, ::testing::ValuesIn(StableBackends()),
                         [](const auto& param) { return std::string(param.param.name); });

// A key that is no number makes its row's logits no numbers, in every type of the cache, and
// nothing of the rows beside it.
TEST_P(LongContextTest, WhatIsNoNumberStaysInItsRow) {
  for (const KvTypeTraits& traits : kKvTypes) {
    LayerSpec spec = kSpecs[0];
    spec.kv_type = traits.type;
    if (!Make(GetParam().options)->HasKvType(traits.type)) continue;
    const LayerValues values = MakeLayer(spec, FormatId::kF32, kContext);
    const std::vector<PagedSequence> sequences = MakeSequences(std::vector{40, 40}, spec.vocab);
    LayerOnBackend layer(Make(GetParam().options), values, kMaxRows, PoolBlocks(sequences));
    layer.Poison(PoolBlocks(sequences));
    BatchArrays history, batch;
    AppendRows(sequences[1], 0, 39, &history);
    for (const PagedSequence& sequence : sequences) AppendRows(sequence, 39, 40, &batch);
    batch.logit_rows = {0, 1};
    layer.Run(history.View(), kAllCalls, LayerOnBackend::kLayers);
    SampleResult results[2];
    const std::vector<float> logits =
        layer.Run(batch.View(), kAllCalls, LayerOnBackend::kLayers, [&] {
          layer.backend().Sample({{{.logit_index = 0}, {.logit_index = 1}}}, results);
        });
    EXPECT_EQ(results[0].status, RowStatus::kNan) << traits.name;
    EXPECT_EQ(results[1].status, RowStatus::kOk) << traits.name;
    for (int64_t i = 0; i < 2 * spec.vocab; ++i) {
      ASSERT_EQ(std::isfinite(logits[i]), i >= spec.vocab) << traits.name << " logit " << i;
    }
  }
}

}  // namespace
}  // namespace vernier::testing
