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
#include "tests/kernels/activation_rows.h"

namespace vernier::testing {
namespace {

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

  std::vector<float> Run(std::span<const Call> calls, int first, int last) {
    return RunRows(&layer_, sequences_[0], calls, first, last);
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
  for (const LayerSpec& spec : {kRecords, kWide}) {
    SCOPED_TRACE(spec.name);
    Runner runner(GetParam().options, MakeLayer(spec, FormatId::kInt8, kContext));
    for (const std::span<const Call> calls : kProductCalls) {
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
  ExpectARowThatIsNoNumberEndsItselfAlone(
      GetParam().options, MakeLayer(kRecords, FormatId::kInt8, kContext), Activations::kInt8);
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
