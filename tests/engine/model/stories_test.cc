// stories260K, a trained Llama: greedy text and perplexity against a float64 forward pass recorded
// outside this project.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tests/engine/model/loaded_model.h"
#include "tests/testing/story_tokenizer.h"
#include "tests/testing/test_data.h"

namespace vernier {
namespace {

using testing::LoadedModel;
using testing::LoadForTest;
using testing::ReadJsonLines;
using testing::SharedDataPath;
using testing::StoryTokenizer;
using testing::TestDataPath;
using testing::VariantsOf;

constexpr int kContext = 512;
// A step scores this many stories at once.
constexpr int kStories = 8;

struct GreedyRun {
  std::vector<int32_t> prompt;
  std::vector<int32_t> ids;
  std::vector<double> margins;  // best minus second logit, by step
};

std::vector<GreedyRun> GreedyRuns() {
  std::vector<GreedyRun> runs;
  for (const auto& line : ReadJsonLines(TestDataPath("stories260K/greedy_golden.jsonl"))) {
    runs.push_back({line["prompt_ids"].get<std::vector<int32_t>>(),
                    line["greedy_ids"].get<std::vector<int32_t>>(),
                    line["margin_top1_top2"].get<std::vector<double>>()});
  }
  return runs;
}

// The first step at which two outputs differ, or -1.
int FirstDifference(std::span<const int32_t> a, std::span<const int32_t> b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i]) return static_cast<int>(i);
  }
  return -1;
}

TEST(StoriesTest, GreedyRunsReproduce) {
  const std::vector<GreedyRun> runs = GreedyRuns();
  ASSERT_EQ(runs.size(), 24u);
  std::vector<std::vector<int32_t>> prompts;
  int64_t prompt_rows = 0;
  for (const GreedyRun& run : runs) {
    prompts.push_back(run.prompt);
    prompt_rows += static_cast<int64_t>(run.prompt.size());
  }
  auto loaded =
      LoadForTest(TestDataPath("stories260K/hf"), VariantsOf({FormatId::kF32, FormatId::kF16}),
                  {.sequences = 24, .context = kContext, .rows = prompt_rows, .logit_rows = 24});
  ASSERT_TRUE(loaded.ok()) << loaded.status();

  const auto fp32 = loaded->driver->Greedy(/*variant=*/0, prompts, /*tokens=*/64);
  ASSERT_TRUE(fp32.ok()) << fp32.status();
  for (size_t i = 0; i < runs.size(); ++i) {
    EXPECT_EQ((*fp32)[i], runs[i].ids) << "run " << i;
  }

  // fp16 may part from it where the two best logits nearly tie. Rounding a weight moves it by at
  // most 2^-11 of itself, so a sum of products moves by about that share of the logits' size.
  const double near_tie = 32 * std::ldexp(1.0, -11);
  const auto fp16 = loaded->driver->Greedy(/*variant=*/1, prompts, /*tokens=*/64);
  ASSERT_TRUE(fp16.ok()) << fp16.status();
  for (size_t i = 0; i < runs.size(); ++i) {
    const int step = FirstDifference((*fp16)[i], runs[i].ids);
    if (step >= 0) {
      EXPECT_LT(runs[i].margins[step], near_tie) << "run " << i << " step " << step;
    }
  }
}

// Token ids of a story, and what it costs in nats by the recorded numpy simulation: weights of the
// layers' linears rounded to a format, float64 activations.
struct Story {
  std::vector<int32_t> ids;
  double fp32_nats = 0, fp16_nats = 0, int8_nats = 0, nf4_nats = 0;
};

// Empty without the shared data: the stories' licence keeps them out of this repository.
std::vector<Story> Stories() {
  std::vector<Story> stories;
  const auto nats = ReadJsonLines(TestDataPath("stories260K/tinystories_nll_dev.jsonl"));
  const auto texts = ReadJsonLines(SharedDataPath("eval/tinystories_even500.jsonl"));
  if (nats.size() != texts.size()) return stories;
  const StoryTokenizer tokenizer(TestDataPath("stories260K/tok512.bin"));
  for (size_t i = 0; i < texts.size(); ++i) {
    std::vector<int32_t> ids = tokenizer.Encode(texts[i]["text"]);
    ids.resize(std::min<size_t>(ids.size(), kContext));
    EXPECT_EQ(ids.size() - 1, nats[i]["n_tokens_scored"]) << "story " << i;
    stories.push_back({std::move(ids), nats[i]["nll_fp32"], nats[i]["nll_fp16"],
                       nats[i]["nll_int8_rtn_per_row"], nats[i]["nll_nf4_block64"]});
  }
  return stories;
}

constexpr const char* kNoStories = "eval/tinystories_even500.jsonl is not in the shared data";

// Nats of each story under one variant, kStories at a time.
std::vector<double> ScoreStories(LoadedModel* loaded, int variant,
                                 const std::vector<Story>& stories) {
  std::vector<double> sums;
  for (size_t first = 0; first < stories.size(); first += kStories) {
    std::vector<std::vector<int32_t>> texts;
    for (size_t i = first; i < std::min(first + kStories, stories.size()); ++i) {
      texts.push_back(stories[i].ids);
    }
    const auto scored = loaded->driver->NegativeLogLikelihoods(variant, texts);
    EXPECT_TRUE(scored.ok()) << scored.status();
    if (!scored.ok()) return {};
    sums.insert(sums.end(), scored->begin(), scored->end());
  }
  return sums;
}

absl::StatusOr<LoadedModel> LoadStories(const std::vector<FormatId>& formats) {
  constexpr int64_t kRows = int64_t{kStories} * kContext;
  return LoadForTest(
      TestDataPath("stories260K/hf"), VariantsOf(formats),
      {.sequences = kStories, .context = kContext, .rows = kRows, .logit_rows = kRows});
}

TEST(StoriesTest, PerplexityOfEachFormatIsTheRecordedOne) {
  std::vector<Story> stories = Stories();
  if (stories.empty()) GTEST_SKIP() << kNoStories;
  ASSERT_EQ(stories.size(), 500u);
  // Under a sanitizer the first two batches, with what was recorded for them.
  if (testing::kSanitized) stories.resize(2 * kStories);
  int64_t tokens = 0;
  for (const Story& story : stories) tokens += static_cast<int64_t>(story.ids.size()) - 1;
  if (!testing::kSanitized) {
    ASSERT_EQ(tokens, 206651);
  }

  auto loaded = LoadStories({FormatId::kF16, FormatId::kInt8, FormatId::kNf4});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const double Story::*recorded[] = {&Story::fp16_nats, &Story::int8_nats, &Story::nf4_nats};
  const double published[] = {5.192, 5.189, 5.849};
  for (int variant = 0; variant < 3; ++variant) {
    SCOPED_TRACE(loaded->model->variants[variant].name);
    double nats = 0, recorded_nats = 0;
    for (const double sum : ScoreStories(&*loaded, variant, stories)) nats += sum;
    for (const Story& story : stories) recorded_nats += story.*recorded[variant];
    const double perplexity = std::exp(nats / static_cast<double>(tokens));
    // Products in whole numbers move NF4's values a little (kernels/cpu/digits-inl.h).
    const double tolerance = variant == 2 ? 0.004 : 0.002;
    EXPECT_NEAR(perplexity, std::exp(recorded_nats / static_cast<double>(tokens)), tolerance);
    if (!testing::kSanitized) {
      EXPECT_NEAR(perplexity, published[variant], tolerance);
    }
  }
}

TEST(StoriesTest, EachStoryCostsWhatWasRecordedInFp32) {
  std::vector<Story> stories = Stories();
  if (stories.empty()) GTEST_SKIP() << kNoStories;
  ASSERT_EQ(stories.size(), 500u);
  stories.resize(kStories);
  auto loaded = LoadStories({FormatId::kF32});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const std::vector<double> sums = ScoreStories(&*loaded, 0, stories);
  ASSERT_EQ(sums.size(), stories.size());
  for (size_t i = 0; i < stories.size(); ++i) {
    // A log-probability is off by the rounding of two logits, which stay under 64 and end sums of
    // 172 terms; a story's errors are independent. The record has five decimals.
    const double of_token = 2 * 64 * std::sqrt(172.0) * std::ldexp(1.0, -24);
    const double tolerance =
        of_token * std::sqrt(static_cast<double>(stories[i].ids.size())) + 1e-5;
    EXPECT_NEAR(sums[i], stories[i].fp32_nats, tolerance) << "story " << i;
  }
}

}  // namespace
}  // namespace vernier
