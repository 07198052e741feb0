// What every backend with int8 activations promises of them (kernels/backend.h), and what CUDA's
// products of whole numbers are, from their definition.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/backends_under_test.h"
#include "tests/kernels/layer_on_backend.h"
#include "tests/kernels/layer_values.h"
#include "tests/kernels/paged_batch.h"

namespace vernier::testing {
namespace {

// Rows of 64 columns, and no multiple of 128 or of a tile's outputs.
const LayerSpec kRecords = {.name = "records",
                            .hidden = 576,
                            .intermediate = 960,
                            .vocab = 131,
                            .attention = {.num_heads = 9, .num_kv_heads = 3, .head_dim = 64},
                            .gate = true};
const LayerSpec kWide = {.name = "longer rows",
                         .hidden = 192,
                         .intermediate = 1536,
                         .vocab = 300,
                         .attention = {.num_heads = 4, .num_kv_heads = 2, .head_dim = 32},
                         .rotated = 32,
                         .gate = true,
                         .post_norms = true};
// Columns that fill no record.
const LayerSpec kOdd = {.name = "odd columns",
                        .hidden = 70,
                        .intermediate = 90,
                        .vocab = 51,
                        .attention = {.num_heads = 3, .num_kv_heads = 1, .head_dim = 20},
                        .norm = NormKind::kLayer,
                        .activation = ActivationKind::kGeluErf,
                        .biases = true};
constexpr int kLength = 300;
constexpr int64_t kContext = 320;

class Int8ActivationsTest : public ::testing::TestWithParam<BackendUnderTest> {
 protected:
  void SetUp() override {
    if (!Make(GetParam().options)->HasActivations(Activations::kInt8, FormatId::kInt8)) {
      GTEST_SKIP() << GetParam().name << " has no int8 activations";
    }
  }
};

// A layer with int8 activations, and one sequence for it.
class Runner {
 public:
  Runner(const BackendOptions& options, const LayerValues& values)
      : sequences_(MakeSequences(std::span(&kLength, 1), values.spec.vocab)),
        layer_(Make(options), values, kContext, PoolBlocks(sequences_)) {
    layer_.SetActivations(Activations::kInt8);
  }
  LayerOnBackend& layer() { return layer_; }
  const PagedSequence& sequence() const { return sequences_[0]; }

  // What the last call makes of positions [first, last).
  std::vector<float> Run(std::span<const Call> calls, int first, int last) {
    BatchArrays batch;
    AppendRows(sequences_[0], first, last, &batch);
    for (int i = 0; i < last - first; ++i) batch.logit_rows.push_back(i);
    return layer_.Run(batch.View(), calls);
  }

 private:
  std::vector<PagedSequence> sequences_;
  LayerOnBackend layer_;
};

TEST_P(Int8ActivationsTest, AreOfNoWeightsOf16BitsOrMore) {
  const auto backend = Make(GetParam().options);
  for (const QuantFormat& format : QuantFormats()) {
    if (format.bits < 16) continue;
    EXPECT_FALSE(backend->HasActivations(Activations::kInt8, format.id)) << format.name;
  }
}

TEST_P(Int8ActivationsTest, ARowHasTheSameBitsAmongAnyOthers) {
  constexpr Call kQuery[] = {Call::kEmbed, Call::kAttentionIn};
  constexpr Call kMlp[] = {Call::kEmbed, Call::kMlpIn, Call::kMlpOut};
  constexpr Call kLogits[] = {Call::kEmbed, Call::kLmHead};
  const std::span<const Call> chains[] = {kQuery, kMlp, kLogits};
  for (const LayerSpec& spec : {kRecords, kWide}) {
    SCOPED_TRACE(spec.name);
    Runner runner(GetParam().options, MakeLayer(spec, FormatId::kInt8, kContext));
    for (const std::span<const Call> calls : chains) {
      const std::vector<float> all = runner.Run(calls, 0, kLength);
      const int64_t width = static_cast<int64_t>(all.size()) / kLength;
      for (const int count : {1, 2, 7, 8, 9, 16, 17, 33, 64, 65, 130, 257}) {
        for (const int first : {0, 23, kLength - count}) {
          const std::vector<float> part = runner.Run(calls, first, first + count);
          ASSERT_EQ(static_cast<int64_t>(part.size()), count * width);
          ASSERT_EQ(
              0, std::memcmp(part.data(), all.data() + first * width, part.size() * sizeof(float)))
              << count << " rows from " << first << ", call " << static_cast<int>(calls.back());
        }
      }
    }
  }
}

// Recorded steps of two variants that share their weights.
TEST_P(Int8ActivationsTest, StepsOfBothActivationsKeepApart) {
  const LayerValues values = MakeLayer(kRecords, FormatId::kInt8, kContext);
  Runner runner(GetParam().options, values);
  std::vector<float> first[2];
  for (int repeat = 0; repeat < 4; ++repeat) {
    for (const Activations activations : {Activations::kFull, Activations::kInt8}) {
      runner.layer().SetActivations(activations);
      const std::vector<float> logits =
          runner.Run({{Call::kEmbed, Call::kMlpIn, Call::kMlpOut, Call::kLmHead}}, 5, 6);
      std::vector<float>& expected = first[activations == Activations::kInt8];
      if (repeat == 0) expected = logits;
      ASSERT_EQ(expected, logits) << "repeat " << repeat;
    }
  }
  EXPECT_NE(first[0], first[1]);
}

TEST_P(Int8ActivationsTest, ARowThatIsNoNumberEndsItselfAlone) {
  const LayerValues values = MakeLayer(kRecords, FormatId::kInt8, kContext);
  const std::vector<PagedSequence> sequences = MakeSequences({{1, 41}}, values.spec.vocab);
  LayerOnBackend layer(Make(GetParam().options), values, 64, PoolBlocks(sequences));
  layer.SetActivations(Activations::kInt8);
  layer.Poison(PoolBlocks(sequences));
  BatchArrays batch;
  AppendRows(sequences[0], 0, 1, &batch);
  AppendRows(sequences[1], 40, 41, &batch);  // attends to keys that were never written
  batch.logit_rows = {0, 1};
  const std::vector<float> logits = layer.Run(batch.View(), kAllCalls);
  const auto is_nan = [](float value) { return std::isnan(value); };
  const auto second = logits.begin() + values.spec.vocab;
  EXPECT_TRUE(std::none_of(logits.begin(), second, is_nan));
  EXPECT_TRUE(std::all_of(second, logits.end(), is_nan));
}

// From the definition: norm in double, one scale a row, whole sums. A value that lies between two
// codes may be rounded to either, as norms are made in fp32: two a row at most.
TEST_P(Int8ActivationsTest, CudaMultipliesRowsOfWholeNumbers) {
  if (GetParam().name != std::string("cuda")) GTEST_SKIP() << "of cuda's one scale a row";
  const LayerValues values = MakeLayer(kRecords, FormatId::kInt8, kContext);
  Runner runner(GetParam().options, values);
  const int64_t hidden = values.spec.hidden, width = values.QueryWidth();
  for (const int rows : {1, 16, kLength}) {
    const std::vector<float> residual = runner.Run({{Call::kEmbed}}, 0, rows);
    const std::vector<float> query = runner.Run({{Call::kEmbed, Call::kAttentionIn}}, 0, rows);
    for (int row = 0; row < rows; ++row) {
      const float* in = residual.data() + row * hidden;
      double squares = 0, largest = 0;
      for (int64_t i = 0; i < hidden; ++i) squares += static_cast<double>(in[i]) * in[i];
      const NormValues& norm = values.attention_norm;
      const double inverse = 1 / std::sqrt(squares / static_cast<double>(hidden) + norm.epsilon);
      std::vector<double> x(hidden);
      for (int64_t i = 0; i < hidden; ++i) {
        x[i] = in[i] * inverse * norm.weight[i];
        largest = std::max(largest, std::fabs(x[i]));
      }
      const double scale = largest / 127;
      for (double& value : x) value = std::nearbyint(value / scale) * scale;
      for (int64_t output = 0; output < width; ++output) {
        const float* w = values.q.decoded.data() + output * hidden;
        double sum = 0, magnitude = 0;
        for (int64_t i = 0; i < hidden; ++i) {
          sum += w[i] * x[i];
          magnitude = std::max<double>(magnitude, std::fabs(w[i]));
        }
        ASSERT_NEAR(query[row * width + output], sum,
                    0x1.01p-11 * std::fabs(sum) + 0x1p-25 + 2 * scale * magnitude)
            << rows << " rows, row " << row << ", output " << output;
      }
    }
  }
}

TEST_P(Int8ActivationsTest, CudaTakesRowsThatFillNoRecordInFull) {
  if (GetParam().name != std::string("cuda")) GTEST_SKIP() << "of cuda's records";
  Runner runner(GetParam().options, MakeLayer(kOdd, FormatId::kInt8, kContext));
  for (const int rows : {1, 40}) {
    std::vector<float> logits[2];
    for (const Activations activations : {Activations::kFull, Activations::kInt8}) {
      runner.layer().SetActivations(activations);
      logits[activations == Activations::kInt8] =
          runner.Run({{Call::kEmbed, Call::kMlpIn, Call::kMlpOut, Call::kLmHead}}, 0, rows);
    }
    EXPECT_EQ(logits[0], logits[1]) << rows << " rows";
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, Int8ActivationsTest, ::testing::ValuesIn(BackendsUnderTest()),
                         [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace vernier::testing
