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
  EXPECT_EQ(GoldenVariant(*running_.model), 0);
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

TEST_F(GoldenTest, QuantizedWeightsAreNotHeldToIt) {
  Model model;
  model.variants.resize(3);
  model.variants[0].precision = FormatId::kNf4;
  model.variants[1].precision = model.variants[2].precision = FormatId::kInt8;
  EXPECT_EQ(GoldenVariant(model), -1);
  model.variants[1].precision = model.variants[2].precision = FormatId::kF16;
  EXPECT_EQ(GoldenVariant(model), 1);
  model.variants[2].precision = FormatId::kF32;
  EXPECT_EQ(GoldenVariant(model), 2);
  model.variants[2].kv = KvType::kInt8;
  EXPECT_EQ(GoldenVariant(model), 1);
}

}  // namespace
}  // namespace vernier
