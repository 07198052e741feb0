// Golden tokens: recorded from one variant, found again in it and in another of enough bits.
#include "engine/golden.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/engine/running_engine.h"

namespace vernier {
namespace {

using ::testing::HasSubstr;
using testing::RunningEngine;

class GoldenTest : public ::testing::Test {
 protected:
  void SetUp() override { running_.Start({.kv_blocks = 16}); }
  absl::StatusOr<GoldenTokens> Record(std::vector<int32_t> prompt, int64_t max_tokens = 16) {
    return RecordGolden(running_.engine.get(), *running_.model, 0, std::move(prompt), max_tokens);
  }
  std::string Refusal(const GoldenTokens& golden) {
    const absl::Status status = CheckGolden(running_.engine.get(), *running_.model, 0, golden);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    return std::string(status.message());
  }
  RunningEngine running_;
};

TEST_F(GoldenTest, WhatIsRecordedIsDrawnAgain) {
  const auto golden = Record({1, 403, 407, 261, 378});
  ASSERT_TRUE(golden.ok()) << golden.status();
  EXPECT_FALSE(golden->tokens.empty());
  EXPECT_GE(golden->least_margin, kGoldenMargin);
  for (int i = 0; i < 2; ++i) {
    const absl::Status again = CheckGolden(running_.engine.get(), *running_.model, 0, *golden);
    EXPECT_TRUE(again.ok()) << again;
  }
}

TEST_F(GoldenTest, ADifferenceIsToldWithBothSequences) {
  auto golden = Record({1, 403, 407, 261, 378}, 2);
  ASSERT_TRUE(golden.ok()) << golden.status();
  const int32_t right = golden->tokens[0];
  golden->tokens = {right == 5 ? 6 : 5};
  EXPECT_THAT(Refusal(*golden),
              HasSubstr("golden tokens: variant fp32 draws [" + std::to_string(right) +
                        "] behind [1, 403, 407, 261, 378], the manifest says [" +
                        std::to_string(golden->tokens[0]) + "] with margins of at least "));
}

TEST_F(GoldenTest, WhatTheModelCannotTakeIsRefused) {
  EXPECT_THAT(Refusal({{512}, {1}, 1}), HasSubstr("token 512 is not in the vocabulary of 512"));
  EXPECT_THAT(Refusal({{-1}, {1}, 1}), HasSubstr("token -1 is not"));
  EXPECT_THAT(Refusal({{1}, std::vector<int32_t>(5000, 1), 1}), HasSubstr("1 and 5000 tokens"));
  EXPECT_TRUE(absl::IsInvalidArgument(Record({}).status()));
}

TEST(GoldenOfTest, EachIsHeldToWhatItsWeightsMustDraw) {
  Model model;
  EXPECT_EQ(GoldenOf(model, DefaultVariant(FormatId::kF32)), nullptr);
  model.golden = GoldenTokens{{1}, {2}, 1};
  model.golden_formats[FormatId::kInt8] = {{1}, {3}, 1};
  for (const FormatId full : {FormatId::kF32, FormatId::kF16, FormatId::kBF16}) {
    EXPECT_EQ(GoldenOf(model, DefaultVariant(full)), &*model.golden);
  }
  EXPECT_EQ(GoldenOf(model, DefaultVariant(FormatId::kInt8)),
            &model.golden_formats[FormatId::kInt8]);
  EXPECT_EQ(GoldenOf(model, DefaultVariant(FormatId::kNf4)), nullptr) << "none was recorded";
}

TEST(GoldenOfTest, WhatIsQuantizedInAnotherWayMayDrawOtherTokens) {
  Model model;
  model.golden = GoldenTokens{{1}, {2}, 1};
  model.golden_formats[FormatId::kInt8] = {{1}, {3}, 1};
  for (const char* name : {"fp16+kv8", "int8+kv8", "int8+a8", "bf16+abf16"}) {
    EXPECT_EQ(GoldenOf(model, *ParseVariant(name)), nullptr) << name;
  }
  VariantSpec spec = DefaultVariant(FormatId::kInt8);
  spec.formats.front().format = FormatId::kInt8;  // lm_head
  EXPECT_EQ(GoldenOf(model, spec), nullptr);
  spec.formats.back().format = FormatId::kF16;
  EXPECT_EQ(GoldenOf(model, spec), nullptr) << "one weight of fewer bits";
}

}  // namespace
}  // namespace vernier
