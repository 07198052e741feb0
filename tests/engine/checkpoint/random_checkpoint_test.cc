// Models of random weights: their shapes, that they say what they are, and the same values each
// time.
#include "engine/checkpoint/random_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

namespace vernier {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::vector<float> Rows(const Checkpoint& checkpoint, const std::string& name, int64_t first,
                        int64_t count) {
  const absl::StatusOr<WeightSource> source = checkpoint.OpenMatrix(name);
  EXPECT_TRUE(source.ok()) << source.status();
  std::vector<float> values(static_cast<size_t>(count * source->cols));
  EXPECT_TRUE(source->read(first, count, values.data()).ok());
  return values;
}

TEST(RandomCheckpointTest, PathWithThePrefixOpensTheShapesOfAModel) {
  const auto checkpoint = Checkpoint::Open("random-weights:llama-3.1-8b");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const ModelConfig& config = (*checkpoint)->config();
  EXPECT_NEAR(static_cast<double>(config.Parameters()), 8.03e9, 0.01e9);
  EXPECT_EQ(config.attention.num_kv_heads, 8);
  EXPECT_EQ(config.inverse_frequencies.size(), 64u);
  EXPECT_EQ((*checkpoint)->source(), "random weights");
  EXPECT_THAT((*checkpoint)->tokenizer_source().reason, HasSubstr("no tokenizer"));
}

TEST(RandomCheckpointTest, APartHasFewerLayersAndASmallerVocabulary) {
  const auto part = OpenRandomCheckpoint("llama-3.1-8b", {.num_layers = 2, .vocab = 1024});
  ASSERT_TRUE(part.ok()) << part.status();
  EXPECT_EQ((*part)->config().num_layers, 2);
  EXPECT_EQ((*part)->config().vocab, 1024);
  EXPECT_EQ((*part)->config().hidden, 4096);
  EXPECT_TRUE((*part)->Has("layers.1.mlp.down"));
  EXPECT_FALSE((*part)->Has("layers.2.mlp.down"));
}

TEST(RandomCheckpointTest, UnknownNameNamesTheKnownOnes) {
  const absl::Status status = Checkpoint::Open("random-weights:llama-9").status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("llama-9"), HasSubstr("smollm2-135m")));
}

TEST(RandomCheckpointTest, RowsAreTheSameReadTogetherOrApart) {
  const auto checkpoint = OpenRandomCheckpoint("smollm2-135m");
  ASSERT_TRUE(checkpoint.ok());
  const std::vector<float> both = Rows(**checkpoint, "layers.3.mlp.down", 5, 2);
  const std::vector<float> second = Rows(**checkpoint, "layers.3.mlp.down", 6, 1);
  EXPECT_TRUE(std::equal(second.begin(), second.end(), both.begin() + both.size() / 2));
  EXPECT_NE(both, Rows(**checkpoint, "layers.4.mlp.down", 5, 2));
  EXPECT_EQ(*(*checkpoint)->WeightsSha256(),
            *(*OpenRandomCheckpoint("smollm2-135m"))->WeightsSha256());
}

TEST(RandomCheckpointTest, ValuesAreThoseOfBf16) {
  const auto checkpoint = OpenRandomCheckpoint("smollm2-135m");
  ASSERT_TRUE(checkpoint.ok());
  for (const float v : Rows(**checkpoint, "layers.0.attention.q", 0, 10)) {
    EXPECT_EQ(v, F32FromBF16(BF16FromF32(v)));
  }
}

TEST(RandomCheckpointTest, ValuesHaveTheDeviationOfAnInitializedModel) {
  const auto checkpoint = OpenRandomCheckpoint("smollm2-135m");
  ASSERT_TRUE(checkpoint.ok());
  const std::vector<float> values = Rows(**checkpoint, "embed", 0, 100);
  double sum = 0, squares = 0;
  for (const float v : values) sum += v, squares += double{v} * v;
  const double count = static_cast<double>(values.size());
  // Five standard errors of 57,600 uniform values.
  EXPECT_NEAR(sum / count, 0, 5 * 0.02 / std::sqrt(count));
  EXPECT_NEAR(std::sqrt(squares / count), 0.02, 5 * 0.02 / std::sqrt(2 * count));
}

}  // namespace
}  // namespace vernier
