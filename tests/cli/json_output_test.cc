#include "cli/json_output.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "vernier/v1/evaluation.pb.h"
#include "vernier/v1/inference.pb.h"
#include "vernier/v1/models.pb.h"

namespace vernier::cli {
namespace {

using nlohmann::ordered_json;

TEST(JsonOutputTest, LargeIntegersAreNumbers) {
  v1::ServedBy served;
  served.set_seed(std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(ToJson(served)["seed"].dump(), "18446744073709551615");
}

TEST(JsonOutputTest, ZeroFieldsArePresentUnderTheirProtoNames) {
  const ordered_json json = ToJson(v1::Usage());
  EXPECT_EQ(json.dump(),
            R"({"prompt_tokens":0,"completion_tokens":0,"cached_tokens":0,"preemptions":0})");
}

TEST(JsonOutputTest, WhatWasNotMeasuredIsNull) {
  v1::VariantResult result;
  EXPECT_TRUE(ToJson(result)["completion"].is_null());
  EXPECT_TRUE(ToJson(result)["forced"].is_null());
  EXPECT_TRUE(ToJson(v1::Divergence())["margin"].is_null());
  v1::ScoreResponse score;
  score.set_perplexity(std::nan(""));
  EXPECT_TRUE(ToJson(score)["perplexity"].is_null());
}

TEST(JsonOutputTest, AnOptionalZeroIsZero) {
  v1::Divergence divergence;
  divergence.set_margin(0);
  EXPECT_EQ(ToJson(divergence)["margin"], 0.0);
  v1::Completion completion;
  completion.set_stop_token_id(0);
  EXPECT_EQ(ToJson(completion)["stop_token_id"], 0);
}

TEST(JsonOutputTest, FloatsAreAsShortAsTheyCanBe) {
  v1::TokenLogprob logprob;
  logprob.set_logprob(-0.1f);
  EXPECT_EQ(ToJson(logprob)["logprob"].dump(), "-0.1");
}

TEST(JsonOutputTest, InfinityHasItsName) {
  v1::ScoreResponse score;
  score.set_perplexity(std::numeric_limits<double>::infinity());
  EXPECT_EQ(ToJson(score)["perplexity"], "Infinity");
}

TEST(JsonOutputTest, EnumsByNameAndUnknownOnesByNumber) {
  v1::Finish finish;
  finish.set_finish_reason(v1::LENGTH);
  EXPECT_EQ(ToJson(finish)["finish_reason"], "LENGTH");
  finish.set_finish_reason(static_cast<v1::FinishReason>(77));
  EXPECT_EQ(ToJson(finish)["finish_reason"], 77);
}

TEST(JsonOutputTest, BytesAreBase64) {
  v1::TokenizeResponse reply;
  reply.add_tokens(std::string("\xff\x00", 1));
  reply.add_tokens("ab");
  EXPECT_EQ(ToJson(reply)["tokens"].dump(), R"(["/w==","YWI="])");
}

TEST(JsonOutputTest, OfAOneofOnlyWhatIsSet) {
  v1::GenerateRequest request;
  request.set_prompt("");
  const ordered_json json = ToJson(request);
  EXPECT_EQ(json["prompt"], "");
  EXPECT_FALSE(json.contains("chat"));
}

TEST(JsonOutputTest, MapsAreObjects) {
  v1::SamplingParams sampling;
  (*sampling.mutable_logit_bias())[7] = -0.5f;
  EXPECT_EQ(ToJson(sampling)["logit_bias"].dump(), R"({"7":-0.5})");
}

TEST(JsonOutputTest, NestedMessagesAndLists) {
  v1::ListModelsResponse reply;
  reply.add_models()->add_variants()->set_state(v1::READY);
  EXPECT_EQ(ToJson(reply)["models"][0]["variants"][0]["state"], "READY");
  EXPECT_TRUE(ToJson(reply)["models"][0]["variants"][0]["memory"].is_null());
}

TEST(JsonOutputTest, ALineIsOneLineOfValidUtf8) {
  EXPECT_EQ(JsonLine({{"text", "a\nb\xff"}}), "{\"text\":\"a\\nb\uFFFD\"}\n");
}

}  // namespace
}  // namespace vernier::cli
