#include "cli/compare_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "cli/compare_json.h"
#include "tests/testing/test_data.h"

namespace vernier::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

v1::VariantResult* AddResult(v1::CompareResponse* reply, const std::string& variant,
                             const std::string& text) {
  v1::VariantResult* result = reply->add_results();
  v1::ServedBy* served = result->mutable_served_by();
  served->set_model("tiny");
  served->set_variant(variant);
  served->set_precision(variant);
  served->set_weights_sha256("0123456789abcdef");
  served->set_source("q4_1 (dequantized)");
  served->set_seed(42);
  v1::Completion* completion = result->mutable_completion();
  completion->set_text(text);
  completion->set_finish_reason(v1::LENGTH);
  completion->mutable_usage()->set_completion_tokens(12);
  completion->mutable_timings()->set_time_to_first_token_seconds(0.0123);
  completion->mutable_timings()->set_mean_inter_token_seconds(0.004);
  completion->mutable_timings()->set_tokens_per_second(212.5);
  completion->mutable_timings()->set_total_seconds(1.5);
  result->mutable_forced()->set_positions(12);
  result->mutable_forced()->set_perplexity(5.1919);
  result->mutable_memory()->set_own_weight_bytes(uint64_t{200} << 20);
  result->mutable_memory()->set_shared_weight_bytes(uint64_t{54} << 20);
  result->mutable_memory()->set_kv_bytes_per_token(23040);
  return result;
}

void AddScores(v1::VariantResult* result, double kl) {
  v1::ForcedScores* forced = result->mutable_forced();
  forced->mutable_kl()->set_mean(kl);
  forced->mutable_kl()->set_p99(3 * kl);
  forced->mutable_kl()->set_max(4 * kl);
  forced->set_top1_agreement(0.934);
  forced->set_top_k_overlap(0.88);
  forced->set_perplexity(5.849);
  forced->set_log_perplexity_difference(0.1192);
}

// fp16 · int8, the same · nf4, which parts at a near tie.
v1::CompareResponse Reply() {
  const std::string story =
      "Once upon a time there was a little girl, 世界, who liked to measure things with a scale.";
  v1::CompareResponse reply;
  reply.set_reference("fp16");
  reply.set_reference_is_quantized(true);
  reply.set_requests_running(2);
  for (int i = 0; i < 9; ++i) reply.add_prompt_token_ids(i);
  for (int i = 0; i < 12; ++i) reply.add_forced_token_ids(i);
  AddResult(&reply, "fp16", story)->set_is_reference(true);
  v1::VariantResult* int8 = AddResult(&reply, "int8", story);
  AddScores(int8, 0.00042);
  int8->mutable_divergence()->set_identical(true);
  int8->mutable_divergence()->set_length_ratio(1);
  v1::VariantResult* nf4 = AddResult(
      &reply, "nf4", "Once upon a time there was a little \x1b[31mdog that barked all day long.");
  AddScores(nf4, 0.0521);
  nf4->mutable_divergence()->set_position(8);
  nf4->mutable_divergence()->set_margin(0.031f);
  nf4->mutable_divergence()->set_edit_distance_tokens(6);
  nf4->mutable_divergence()->set_length_ratio(0.75);
  return reply;
}

TEST(CompareReportTest, LooksAsRecorded) {
  const std::string out = RenderCompare(Reply(), {.canvas = {.columns = 100}});
  std::ifstream file(vernier::testing::TestDataPath("../cli/compare.golden"));
  std::stringstream golden;
  golden << file.rdbuf();
  EXPECT_EQ(out, golden.str());
}

TEST(CompareReportTest, ColourMarksThePartingAndNothingElseEscapes) {
  const std::string out = RenderCompare(Reply(), {.canvas = {.columns = 100, .colour = true}});
  EXPECT_THAT(out, HasSubstr("\x1b[33m▸"));
  EXPECT_THAT(out, Not(HasSubstr("\x1b[31m")));
}

TEST(CompareReportTest, AFailedVariantSaysWhyInItsColumn) {
  v1::CompareResponse reply = Reply();
  reply.mutable_results(2)->clear_completion();
  reply.mutable_results(2)->clear_divergence();
  reply.mutable_results(2)->clear_forced();
  reply.mutable_results(2)->set_status_code(14);
  reply.mutable_results(2)->set_status_message("tripped");
  const std::string out = RenderCompare(reply, {});
  EXPECT_THAT(out, HasSubstr("nf4 failed: unavailable: tripped"));
}

TEST(CompareReportTest, ForcedAloneShowsNoAnswersAndNoSpeed) {
  v1::CompareResponse reply = Reply();
  for (auto& result : *reply.mutable_results()) {
    result.clear_completion();
    result.clear_divergence();
  }
  const std::string out = RenderCompare(reply, {});
  EXPECT_THAT(out, Not(HasSubstr("│")));
  EXPECT_THAT(out, Not(HasSubstr("tokens/s")));
  EXPECT_THAT(out, HasSubstr("KL mean"));
}

TEST(CompareReportTest, WithoutATokenizerIdsStandForText) {
  v1::CompareResponse reply = Reply();
  for (auto& result : *reply.mutable_results()) {
    result.mutable_completion()->clear_text();
    for (const uint32_t id : {3, 4, 5}) result.mutable_completion()->add_token_ids(id);
  }
  reply.mutable_results(2)->mutable_completion()->set_token_ids(2, 9);
  EXPECT_THAT(RenderCompare(reply, {}), HasSubstr("3 4 ▸9"));
}

TEST(CompareReportTest, AnEmptyReplyIsNoTrouble) {
  EXPECT_EQ(RenderCompare(v1::CompareResponse(), {}), "");
}

TEST(CompareJsonTest, TheReferenceWasNotScoredAgainstItself) {
  v1::CompareResponse reply = Reply();
  AddScores(reply.mutable_results(0), 0);  // what a server may put there
  const auto json = CompareJson(reply);
  const auto& reference = json["results"][0]["forced"];
  EXPECT_TRUE(reference["kl"].is_null());
  EXPECT_TRUE(reference["top1_agreement"].is_null());
  EXPECT_EQ(reference["perplexity"], 5.849);
  EXPECT_EQ(json["results"][1]["forced"]["top1_agreement"], 0.934);
  EXPECT_TRUE(json["results"][0]["divergence"].is_null());
}

TEST(CompareJsonTest, NothingScoredIsNull) {
  v1::CompareResponse reply;
  reply.add_results()->mutable_forced();
  EXPECT_TRUE(CompareJson(reply)["results"][0]["forced"]["perplexity"].is_null());
}

}  // namespace
}  // namespace vernier::cli
