#include "engine/sampling_limits.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "engine/status_payload.h"

namespace vernier {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
constexpr int64_t kContext = 100;
constexpr int64_t kVocab = 50;

SamplingParams Valid() {
  SamplingParams params;
  params.max_tokens = 10;
  return params;
}

absl::Status Check(const std::function<void(SamplingParams*)>& change, int64_t prompt_tokens = 5) {
  SamplingParams params = Valid();
  change(&params);
  return CheckSampling(params, prompt_tokens, kContext, kVocab);
}

// Refused, and the refusal names the field and says its value and limit.
void ExpectRefused(const absl::Status& status, const std::string& field) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << field;
  const auto violation = FieldViolationOf(status);
  ASSERT_TRUE(violation.has_value()) << field;
  EXPECT_EQ(violation->field, field);
  EXPECT_FALSE(violation->value.empty()) << field;
  EXPECT_FALSE(violation->limit.empty()) << field;
}

struct FloatField {
  const char* name;
  float SamplingParams::*member;
  std::vector<float> refused;  // beyond NaN, infinities and 1e30
  std::vector<float> accepted;
};

TEST(SamplingLimitsTest, FloatsOutOfRangeAreRefusedByName) {
  const FloatField fields[] = {
      {"sampling.temperature", &SamplingParams::temperature, {-0.1f, 100.5f}, {-0.0f, 0, 1, 100}},
      {"sampling.top_p", &SamplingParams::top_p, {0, -0.0f, -0.5f, 1.0001f}, {1e-6f, 0.5f, 1}},
      {"sampling.min_p", &SamplingParams::min_p, {-0.1f, 1.0001f}, {-0.0f, 0, 1}},
      {"sampling.frequency_penalty", &SamplingParams::frequency_penalty, {-2.1f, 2.1f}, {-2, 0, 2}},
      {"sampling.presence_penalty", &SamplingParams::presence_penalty, {-2.1f, 2.1f}, {-2, 0, 2}},
      {"sampling.repetition_penalty",
       &SamplingParams::repetition_penalty,
       {0, -1, 10.5f},
       {0.1f, 1, 10}},
  };
  for (const FloatField& field : fields) {
    std::vector<float> refused = field.refused;
    refused.insert(refused.end(), {kNan, -kNan, kInf, -kInf, 1e30f, -1e30f});
    for (const float value : refused) {
      SCOPED_TRACE(value);
      ExpectRefused(Check([&](SamplingParams* p) { p->*field.member = value; }), field.name);
    }
    for (const float value : field.accepted) {
      const absl::Status status = Check([&](SamplingParams* p) { p->*field.member = value; });
      EXPECT_TRUE(status.ok()) << value << ": " << status;
    }
  }
}

TEST(SamplingLimitsTest, TheRefusalSaysValueAndLimit) {
  const absl::Status status = Check([](SamplingParams* p) { p->top_p = 1.5f; });
  EXPECT_EQ(status.message(), "sampling.top_p is 1.5, must be in (0, 1]");
  EXPECT_EQ(FieldViolationOf(Check([](SamplingParams* p) { p->temperature = kNan; }))->value,
            "nan");
  EXPECT_EQ(FieldViolationOf(Check([](SamplingParams* p) { p->max_tokens = kHuge; }))->value,
            "9223372036854775807");
}

TEST(SamplingLimitsTest, IntegersOutOfRangeAreRefusedByName) {
  for (const int top_k : {-1, std::numeric_limits<int>::min()}) {
    ExpectRefused(Check([&](SamplingParams* p) { p->top_k = top_k; }), "sampling.top_k");
  }
  EXPECT_TRUE(Check([](SamplingParams* p) { p->top_k = 0x7fffffff; }).ok());
  for (const int logprobs : {-2, kMaxTopLogprobs + 1, 1'000'000}) {
    ExpectRefused(Check([&](SamplingParams* p) { p->logprobs = logprobs; }), "sampling.logprobs");
    ExpectRefused(Check([&](SamplingParams* p) { p->prompt_logprobs = logprobs; }),
                  "sampling.prompt_logprobs");
  }
  for (const int logprobs : {-1, 0, kMaxTopLogprobs}) {
    EXPECT_TRUE(Check([&](SamplingParams* p) { p->logprobs = logprobs; }).ok());
  }
}

TEST(SamplingLimitsTest, LengthsOutOfRangeAreRefusedByName) {
  for (const int64_t max_tokens : {int64_t{0}, int64_t{-1}, kContext + 1, int64_t{0xffffffff},
                                   kHuge, std::numeric_limits<int64_t>::min()}) {
    ExpectRefused(Check([&](SamplingParams* p) { p->max_tokens = max_tokens; }),
                  "sampling.max_tokens");
  }
  for (const int64_t min_tokens : {int64_t{-1}, int64_t{11}, kHuge}) {
    ExpectRefused(Check([&](SamplingParams* p) { p->min_tokens = min_tokens; }),
                  "sampling.min_tokens");
  }
  EXPECT_TRUE(Check([](SamplingParams* p) { p->min_tokens = p->max_tokens; }).ok());
}

TEST(SamplingLimitsTest, PromptAndOutputMustFitTheContextTogether) {
  const auto unchanged = [](SamplingParams*) {};
  EXPECT_TRUE(Check(unchanged, kContext - 10).ok());
  for (const int64_t prompt : {int64_t{0}, int64_t{-1}, kContext - 9, kHuge}) {
    ExpectRefused(Check(unchanged, prompt), "prompt");
  }
}

TEST(SamplingLimitsTest, TokenIdsOutsideTheVocabularyAreRefused) {
  for (const int32_t id : {-1, static_cast<int32_t>(kVocab), 0x7fffffff}) {
    ExpectRefused(Check([&](SamplingParams* p) {
                    p->stop_token_ids = {0, id};
                  }),
                  "sampling.stop_token_ids");
    ExpectRefused(Check([&](SamplingParams* p) { p->logit_bias = {{.id = id, .bias = 1}}; }),
                  "sampling.logit_bias");
  }
  EXPECT_TRUE(Check([](SamplingParams* p) { p->stop_token_ids = {0, kVocab - 1}; }).ok());
}

TEST(SamplingLimitsTest, ListsThatAreTooLongAreRefused) {
  ExpectRefused(Check([](SamplingParams* p) { p->stop_token_ids.assign(kMaxStopTokenIds + 1, 1); }),
                "sampling.stop_token_ids");
  EXPECT_TRUE(Check([](SamplingParams* p) { p->stop_token_ids.assign(kMaxStopTokenIds, 1); }).ok());
  ExpectRefused(Check([](SamplingParams* p) {
                  p->logit_bias.assign(kMaxLogitBiases + 1, {.id = 1, .bias = 1});
                }),
                "sampling.logit_bias");
}

TEST(SamplingLimitsTest, BiasesOutOfRangeAreRefused) {
  for (const float bias : {kNan, kInf, -kInf, 100.5f, -100.5f, 1e30f}) {
    ExpectRefused(Check([&](SamplingParams* p) { p->logit_bias = {{.id = 1, .bias = bias}}; }),
                  "sampling.logit_bias");
  }
  EXPECT_TRUE(Check([](SamplingParams* p) { p->logit_bias = {{1, -100}, {2, 100}}; }).ok());
}

}  // namespace
}  // namespace vernier
