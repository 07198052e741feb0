// Activations, conversions and norms of every instruction set against the C library in double.
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/backend.h"
#include "tests/kernels/cpu/supported_isas.h"

namespace vernier {
namespace {

// Values over the whole range where the functions do anything, and some beyond; a multiple of 16.
std::vector<float> Inputs() {
  std::vector<float> inputs;
  for (int i = -4000; i < 4000; ++i) inputs.push_back(static_cast<float>(i) * 0.0037f);
  for (int i = 0; i < 80; ++i) {
    inputs.push_back(std::ldexp(1.1f, i - 60));
    inputs.push_back(-std::ldexp(1.3f, i - 60));
  }
  return inputs;
}

double SiluOf(double x) { return x / (1 + std::exp(-x)); }
double GeluTanhOf(double x) {
  return x / (1 + std::exp(-2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
double GeluErfOf(double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }

class IsaTest : public testing::TestWithParam<IsaKernels> {};

TEST_P(IsaTest, ActivationsAreAccurate) {
  // The relative error is that of an exponential: its argument's roundings times the argument, a
  // few ulp beside, and for erf the fit's own 6e-7.
  const struct {
    ActivationKind kind;
    double (*expected)(double);
    double (*argument)(double);
    double ulps;
  } rows[] = {
      {ActivationKind::kSilu, SiluOf, [](double) { return 0.0; }, 8},
      {ActivationKind::kGeluTanh, GeluTanhOf,
       [](double x) { return std::fabs(1.6 * (x + 0.044715 * x * x * x)); }, 8},
      {ActivationKind::kGeluErf, GeluErfOf, [](double x) { return x * x / 2; }, 20},
  };
  // Below this the results are subnormal or leave the range in the middle of the computation.
  constexpr double kSmallest = 1e-36;
  for (const auto& row : rows) {
    const std::vector<float> inputs = Inputs();
    std::vector<float> outputs = inputs;
    GetParam().table->activate[static_cast<int>(row.kind)](outputs.data(), nullptr, outputs.size());
    for (size_t i = 0; i < inputs.size(); ++i) {
      const double expected = row.expected(inputs[i]);
      const double relative = (row.ulps + 4 * row.argument(inputs[i])) * 0x1p-24;
      ASSERT_NEAR(outputs[i], expected, relative * std::fabs(expected) + kSmallest)
          << "kind " << static_cast<int>(row.kind) << " of " << inputs[i];
    }
  }
}

TEST_P(IsaTest, ActivationsMultiplyAndPassNanOn) {
  std::vector<float> gate(16, 2.0f), up(16, 3.0f);
  gate[5] = std::numeric_limits<float>::quiet_NaN();
  up[7] = std::numeric_limits<float>::quiet_NaN();
  for (int kind = 0; kind < 3; ++kind) {
    std::vector<float> out = gate, alone = gate;
    GetParam().table->activate[kind](out.data(), up.data(), 16);
    GetParam().table->activate[kind](alone.data(), nullptr, 16);
    for (int i = 0; i < 16; ++i) {
      if (i == 5 || i == 7) {
        EXPECT_TRUE(std::isnan(out[i])) << kind << " " << i;
      } else {
        EXPECT_EQ(out[i], alone[i] * 3.0f);
      }
    }
  }
}

TEST_P(IsaTest, EveryHalfIsLoadedAndStoredExactly) {
  for (const KvType type : {KvType::kF16, KvType::kBF16}) {
    std::vector<uint16_t> bits(65536);
    for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i);
    std::vector<float> values(bits.size());
    GetParam().table->load[static_cast<int>(type)](bits.data(), bits.size(), values.data());
    for (size_t i = 0; i < bits.size(); ++i) {
      const float expected = type == KvType::kF16 ? F32FromF16(bits[i]) : F32FromBF16(bits[i]);
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(values[i])) << i;
      } else {
        ASSERT_EQ(std::bit_cast<uint32_t>(values[i]), std::bit_cast<uint32_t>(expected)) << i;
      }
    }
  }
}

TEST_P(IsaTest, StoresRoundToNearestEven) {
  std::vector<float> values;
  uint32_t state = 12345;
  for (int i = 0; i < 40003; ++i) {  // an odd count: the last vector is partial
    state = state * 1664525u + 1013904223u;
    values.push_back(std::bit_cast<float>(state));
  }
  for (int i = 0; i < 3000; ++i) values[i] = std::ldexp(values[i] > 0 ? 1.0f : -1.5f, i % 60 - 30);
  const auto expected = [](KvType type, float value) {
    return type == KvType::kF16 ? F16FromF32(value) : BF16FromF32(value);
  };
  for (const KvType type : {KvType::kF16, KvType::kBF16}) {
    std::vector<uint16_t> bits(values.size() + 1, 0x5555);
    GetParam().table->store[static_cast<int>(type)](values.data(), values.size(), 1, bits.data());
    for (size_t i = 0; i < values.size(); ++i) {
      if (std::isnan(values[i])) {
        const float back = type == KvType::kF16 ? F32FromF16(bits[i]) : F32FromBF16(bits[i]);
        ASSERT_TRUE(std::isnan(back)) << values[i];
      } else {
        ASSERT_EQ(bits[i], expected(type, values[i])) << values[i];
      }
    }
    EXPECT_EQ(bits.back(), 0x5555) << "wrote past the end";
  }
}

TEST_P(IsaTest, HeadsAreKeptAsTheirTypeSays) {
  std::vector<float> values;
  uint32_t state = 99;
  for (int i = 0; i < 300; ++i) {
    state = state * 1664525u + 1013904223u;
    // Of few sizes, so that many lie in the middle of two codes.
    values.push_back(static_cast<float>(static_cast<int32_t>(state) >> 20) * 0x1p-9f);
  }
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const float odd : {0.0f, 1e-45f, 3e38f, -3e38f, kInf, -kInf, std::nanf("")}) {
    for (const int n : {1, 3, 4, 15, 16, 17, 64, 80, 256}) {
      std::vector<float> head(values.end() - n, values.end());
      head[head.size() / 2] = odd;
      const auto count = static_cast<int64_t>(head.size());
      const float largest = GetParam().table->largest(head.data(), count);
      for (const KvTypeTraits& traits : kKvTypes) {
        const size_t bytes = head.size() * traits.value_bytes;
        std::vector<uint8_t> expected(bytes), actual(bytes + 1, 0x55);
        float scale = 1;
        EncodeKvHead(traits.type, head, expected.data(), &scale);
        const KvScale stored = KvScaleOf(traits.type, largest);
        const int row = static_cast<int>(traits.type);
        GetParam().table->store[row](head.data(), count, stored.inverse, actual.data());
        EXPECT_EQ(actual.back(), 0x55) << "wrote past the end";
        std::vector<float> loaded(head.size());
        GetParam().table->load[row](actual.data(), count, loaded.data());
        ASSERT_TRUE(stored.scale == scale || (std::isnan(stored.scale) && std::isnan(scale)));
        for (size_t i = 0; i < head.size(); ++i) {
          const float value = DecodeKv(traits.type, expected.data(), static_cast<int64_t>(i));
          if (std::isnan(value * scale)) {
            ASSERT_TRUE(std::isnan(loaded[i] * stored.scale)) << traits.name << " " << head[i];
          } else {
            ASSERT_EQ(value, loaded[i]) << traits.name << " " << head[i] << " of " << n;
          }
        }
      }
    }
  }
}

TEST_P(IsaTest, NormsOfAnyLengthMatchDouble) {
  for (const int n : {1, 5, 16, 17, 63, 64, 577}) {
    std::vector<float> x(n), weight(n), bias(n), out(n);
    for (int i = 0; i < n; ++i) {
      x[i] = static_cast<float>(std::sin(i * 1.7) * 3 + 0.5);
      weight[i] = static_cast<float>(1 + 0.1 * std::cos(i));
      bias[i] = static_cast<float>(0.2 * std::sin(i));
    }
    double mean = 0, squares = 0, variance = 0;
    for (const float v : x) mean += v;
    mean /= n;
    for (const float v : x) squares += static_cast<double>(v) * v;
    for (const float v : x) variance += (v - mean) * (v - mean);
    const double tolerance = 4e-7 * (n + 8);
    GetParam().table->rms_norm(x.data(), weight.data(), nullptr, 1e-5f, n, out.data());
    for (int i = 0; i < n; ++i) {
      EXPECT_NEAR(out[i], x[i] / std::sqrt(squares / n + 1e-5) * weight[i], tolerance);
    }
    if (n == 1) continue;  // a variance of rounding errors
    GetParam().table->layer_norm(x.data(), weight.data(), bias.data(), 1e-5f, n, out.data());
    for (int i = 0; i < n; ++i) {
      EXPECT_NEAR(out[i], (x[i] - mean) / std::sqrt(variance / n + 1e-5) * weight[i] + bias[i],
                  tolerance);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(AllSupported, IsaTest, testing::ValuesIn(SupportedIsas()),
                         [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace vernier
