// Backends that are deterministic: a row's logits are the same bits whatever the rows beside it,
// where its prompt was cut, and whether its step was recorded; at shapes of the tensor cores, and
// over contexts that attention cuts.
#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/sanitizer.h"
#include "tests/kernels/backends_under_test.h"
#include "tests/kernels/layer_on_backend.h"
#include "tests/kernels/layer_values.h"
#include "tests/kernels/paged_batch.h"

namespace vernier::testing {
namespace {

constexpr FormatId kFormats[] = {FormatId::kF16, FormatId::kBF16, FormatId::kInt8, FormatId::kNf4};

// Weights long enough to be cut along their columns; heads that are normalized, as these sums are
// not in one order in every kernel; a window; caches of each type.
const LayerSpec kSpecs[] = {
    {.name = "heads of 64",
     .hidden = 512,
     .intermediate = 768,
     .vocab = 200,
     .attention = {.num_heads = 8, .num_kv_heads = 2, .head_dim = 64},
     .kv_type = KvType::kF16,
     .rotated = 64,
     .gate = true},
    {.name = "normalized heads of 128, a window, int8 cache",
     .hidden = 512,
     .intermediate = 320,
     .vocab = 136,
     .attention = {.num_heads = 6, .num_kv_heads = 2, .head_dim = 128, .window = 530},
     .kv_type = KvType::kInt8,
     .rotated = 128,
     .gate = true,
     .head_norms = true},
    {.name = "heads of 96 with biases, bf16 cache",
     .hidden = 192,
     .intermediate = 320,
     .vocab = 72,
     .attention = {.num_heads = 2, .num_kv_heads = 2, .head_dim = 96},
     .kv_type = KvType::kBF16,
     .norm = NormKind::kLayer,
     .activation = ActivationKind::kGeluTanh,
     .rotated = 96,
     .biases = true},
};
constexpr int kSequences = 64;
constexpr int64_t kMaxRows = 2048, kContext = 1200;

// One context of five cuts and one of three; the others are short.
int LengthOf(int sequence) {
  return sequence == 0 ? 1117 : sequence == 1 ? 700 : 5 + sequence * 13 % 61;
}
std::vector<int> Lengths() {
  std::vector<int> lengths;
  for (int i = 0; i < kSequences; ++i) lengths.push_back(LengthOf(i));
  return lengths;
}

// The logits of the last position of each sequence, which is decoded.
using Results = std::map<int, std::vector<float>>;

class Runner {
 public:
  Runner(const BackendOptions& options, const LayerValues& values)
      : vocab_(values.spec.vocab),
        sequences_(MakeSequences(Lengths(), vocab_)),
        layer_(Make(options), values, kMaxRows, PoolBlocks(sequences_)) {}

  // All but the last position of every sequence, in steps of at most `rows` rows that cut prompts
  // where they end; other sequences fill them up.
  void Prefill(int rows) {
    BatchArrays batch;
    int filled = 0;
    for (int i = 0; i < kSequences; ++i) {
      for (int first = 0; first < LengthOf(i) - 1;) {
        const int last = std::min(LengthOf(i) - 1, first + rows - filled);
        AppendRows(sequences_[i], first, last, &batch);
        filled += last - first;
        first = last;
        if (filled == rows) RunLayer(&batch, &filled);
      }
    }
    RunLayer(&batch, &filled);
  }
  // The last positions of all, `together` at a time.
  Results Decode(int together) {
    Results results;
    for (int first = 0; first < kSequences; first += together) {
      const int last = std::min(kSequences, first + together);
      BatchArrays batch;
      for (int i = first; i < last; ++i) {
        AppendRows(sequences_[i], LengthOf(i) - 1, LengthOf(i), &batch);
        batch.logit_rows.push_back(i - first);
      }
      const auto logits = layer_.Run(batch.View(), kAllCalls, LayerOnBackend::kLayers);
      for (int i = first; i < last; ++i) {
        const auto* row = logits.data() + (i - first) * vocab_;
        results[i] = {row, row + vocab_};
      }
    }
    return results;
  }
  // Every position of sequence 0 in one step, with its logits: the last position's, as prefill
  // makes it.
  std::vector<float> WholePrompt() {
    BatchArrays batch;
    AppendRows(sequences_[0], 0, LengthOf(0), &batch);
    for (int i = 0; i < LengthOf(0); ++i) batch.logit_rows.push_back(i);
    const auto logits = layer_.Run(batch.View(), kAllCalls, LayerOnBackend::kLayers);
    return {logits.end() - vocab_, logits.end()};
  }

 private:
  void RunLayer(BatchArrays* batch, int* filled) {
    if (*filled == 0) return;
    batch->logit_rows = {0};
    layer_.Run(batch->View(), kAllCalls, LayerOnBackend::kLayers);
    *batch = {};
    *filled = 0;
  }

  const int64_t vocab_;
  const std::vector<PagedSequence> sequences_;
  LayerOnBackend layer_;
};

int CountEqual(const Results& expected, const Results& actual) {
  int equal = 0;
  for (const auto& [sequence, logits] : expected) {
    const auto found = actual.find(sequence);
    equal += found != actual.end() && found->second.size() == logits.size() &&
             std::memcmp(found->second.data(), logits.data(), logits.size() * sizeof(float)) == 0;
  }
  return equal;
}

class RowIndependenceTest
    : public ::testing::TestWithParam<std::tuple<BackendUnderTest, FormatId>> {};

TEST_P(RowIndependenceTest, ARowIsTheSameBitsInBatchesOf1To64AndBehindAnyCutOfItsPrompt) {
  const auto& [under_test, format] = GetParam();
  for (const LayerSpec& spec : kSpecs) {
    SCOPED_TRACE(spec.name);
    const LayerValues values = MakeLayer(spec, format, kContext);
    Runner runner(under_test.options, values);
    runner.Prefill(kMaxRows);
    const Results alone = runner.Decode(1);
    for (const int together : {2, 3, 5, 8, 16, 17, 32, 64}) {
      EXPECT_EQ(CountEqual(alone, runner.Decode(together)), kSequences) << together << " rows";
    }
    EXPECT_EQ(alone.at(0), runner.WholePrompt()) << "as a row of prefill";
    for (const int rows : {1000, 129, 40}) {
      runner.Prefill(rows);
      EXPECT_EQ(CountEqual(alone, runner.Decode(16)), kSequences) << rows << " rows of prefill";
    }
  }
}

// Of the CPU's instruction sets the best alone, and none in a sanitizer's build, where it would
// take minutes: bit_stability_test.cc tries all of them.
constexpr bool kWithCpu = VERNIER_SANITIZED == 0;
std::vector<BackendUnderTest> DeterministicBackends() {
  std::vector<BackendUnderTest> cpu, others;
  for (const BackendUnderTest& backend : BackendsUnderTest()) {
    if (backend.options.kind == "cpu" && !backend.options.fast_prefill && kWithCpu) cpu = {backend};
    if (backend.options.deterministic) others.push_back(backend);
  }
  cpu.insert(cpu.end(), others.begin(), others.end());
  return cpu;
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(RowIndependenceTest);
INSTANTIATE_TEST_SUITE_P(Backends, RowIndependenceTest,
                         ::testing::Combine(::testing::ValuesIn(DeterministicBackends()),
                                            ::testing::ValuesIn(kFormats)),
                         [](const auto& param) {
                           return std::string(std::get<0>(param.param).name) + "_" +
                                  FormatOf(std::get<1>(param.param)).name;
                         });

}  // namespace
}  // namespace vernier::testing
