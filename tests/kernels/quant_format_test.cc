// The table of formats.
#include "kernels/quant_format.h"

#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/quantize.h"

namespace vernier {
namespace {

TEST(QuantFormatTest, EveryRowIsFoundByItsIdAndItsName) {
  ASSERT_EQ(QuantFormats().size(), static_cast<size_t>(kNumFormats));
  std::set<std::string> names;
  std::set<int> ranks;
  for (int i = 0; i < kNumFormats; ++i) {
    const QuantFormat& format = QuantFormats()[i];
    EXPECT_EQ(static_cast<int>(format.id), i);
    EXPECT_EQ(&FormatOf(format.id), &format);
    const absl::StatusOr<FormatId> parsed = ParseFormat(format.name);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, format.id);
    names.insert(format.name);
    ranks.insert(format.precision_rank);
  }
  EXPECT_EQ(names.size(), QuantFormats().size());
  EXPECT_EQ(ranks.size(), QuantFormats().size()) << "two formats of one rank: which is better?";
}

TEST(QuantFormatTest, PrecisionRanksFollowTheErrorOfTheFormat) {
  EXPECT_GT(FormatOf(FormatId::kF32).precision_rank, FormatOf(FormatId::kF16).precision_rank);
  EXPECT_GT(FormatOf(FormatId::kF16).precision_rank, FormatOf(FormatId::kBF16).precision_rank);
  EXPECT_GT(FormatOf(FormatId::kBF16).precision_rank, FormatOf(FormatId::kInt8).precision_rank);
  EXPECT_GT(FormatOf(FormatId::kInt8).precision_rank, FormatOf(FormatId::kNf4).precision_rank);
  EXPECT_GT(FormatOf(FormatId::kNf4).precision_rank, FormatOf(FormatId::kNf4Dq).precision_rank);
}

TEST(QuantFormatTest, UnknownNameListsTheKnownOnes) {
  for (const char* name : {"", "fp8", "NF4", "nf4 "}) {
    const absl::StatusOr<FormatId> parsed = ParseFormat(name);
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(std::string(parsed.status().message()),
                ::testing::HasSubstr("known: fp32, fp16, bf16, int8, nf4, nf4-dq"));
  }
}

TEST(QuantFormatTest, BytesCountCodesAndScales) {
  EXPECT_EQ(FormatBytes(FormatId::kF32, 3, 5), 60);
  EXPECT_EQ(FormatBytes(FormatId::kF16, 3, 5), 30);
  EXPECT_EQ(FormatBytes(FormatId::kInt8, 3, 5), 15 + 3 * 4);
  EXPECT_EQ(FormatBytes(FormatId::kNf4, 3, 5), 8 + 4);              // 15 codes, one block
  EXPECT_EQ(FormatBytes(FormatId::kNf4, 64, 172), 5504 + 172 * 4);  // blocks straddle rows
  EXPECT_EQ(FormatBytes(FormatId::kNf4Dq, 64, 172), 5504 + 172 + 4 + 4);
  EXPECT_EQ(FormatBytes(FormatId::kNf4Dq, 1, 64 * 257), 64 * 257 / 2 + 257 + 2 * 4 + 4);
}

TEST(QuantFormatTest, BytesAreWhatTheEncoderMakes) {
  const std::vector<float> values(37 * 53, 0.5f);
  for (const QuantFormat& format : QuantFormats()) {
    const absl::StatusOr<QuantizedMatrix> matrix = Quantize(SourceOf(values, 37, 53), format.id);
    ASSERT_TRUE(matrix.ok()) << matrix.status();
    const size_t offset = matrix->nested_scales.empty() ? 0 : sizeof(matrix->nested_offset);
    EXPECT_EQ(FormatBytes(format.id, 37, 53),
              static_cast<int64_t>(matrix->codes.size() + matrix->nested_codes.size() + offset +
                                   (matrix->scales.size() + matrix->nested_scales.size()) *
                                       sizeof(float)))
        << format.name;
  }
}

}  // namespace
}  // namespace vernier
