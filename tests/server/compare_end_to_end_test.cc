// Compare over real gRPC, with a trained model in four formats.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <thread>

#include "tests/server/end_to_end.h"

namespace vernier {
namespace {

using testing::GoldenRun;
using testing::GoldenRuns;
using testing::IdsRequest;

class CompareEndToEndTest : public testing::EndToEndTest {
 protected:
  static v1::CompareRequest Request(v1::CompareMode mode) {
    v1::CompareRequest request;
    *request.mutable_base() = IdsRequest(GoldenRuns()[2].prompt, 48);
    request.set_mode(mode);
    return request;
  }
  v1::CompareResponse Compare(const v1::CompareRequest& request) {
    grpc::ClientContext context;
    v1::CompareResponse reply;
    const grpc::Status status = running_.evaluation->Compare(&context, request, &reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return reply;
  }
  static std::vector<uint32_t> IdsOf(const v1::VariantResult& result) {
    return {result.completion().token_ids().begin(), result.completion().token_ids().end()};
  }
};

TEST_F(CompareEndToEndTest, FreeRunsAreWhatGenerateGivesAndPartWhereTheyDiffer) {
  const v1::CompareResponse reply = Compare(Request(v1::FREE_RUNNING));
  ASSERT_EQ(reply.results_size(), 4);
  EXPECT_EQ(reply.reference(), "fp32");
  EXPECT_FALSE(reply.reference_is_quantized());
  const std::vector<uint32_t> reference = IdsOf(reply.results(0));
  const std::vector<uint32_t> golden = GoldenRuns()[2].output;
  EXPECT_TRUE(std::equal(reference.begin(), reference.end(), golden.begin()));
  for (const v1::VariantResult& result : reply.results()) {
    EXPECT_EQ(result.status_code(), 0u);
    EXPECT_GT(result.memory().kv_bytes_per_token(), 0u);
    v1::GenerateRequest alone = Request(v1::FREE_RUNNING).base();
    alone.set_variant(result.served_by().variant());
    const auto [status, generated] = testing::Generate(running_, alone);
    ASSERT_TRUE(status.ok());
    const std::vector<uint32_t> ids = IdsOf(result);
    EXPECT_TRUE(std::equal(ids.begin(), ids.end(), generated.completions(0).token_ids().begin(),
                           generated.completions(0).token_ids().end()));
    EXPECT_EQ(result.has_divergence(), !result.is_reference());
    EXPECT_FALSE(result.has_forced());
    if (result.is_reference()) continue;
    const v1::Divergence& divergence = result.divergence();
    const auto [a, b] = std::mismatch(ids.begin(), ids.end(), reference.begin(), reference.end());
    EXPECT_EQ(divergence.position(), static_cast<uint64_t>(a - ids.begin()));
    EXPECT_EQ(divergence.identical(), ids == reference);
    EXPECT_EQ(divergence.has_margin(), !divergence.identical());
  }
}

TEST_F(CompareEndToEndTest, ForcedScoresRankThePrecisions) {
  v1::CompareRequest request = Request(v1::TEACHER_FORCED);
  const GoldenRun golden = GoldenRuns()[2];
  request.mutable_forced_ids()->mutable_ids()->Add(golden.output.begin(), golden.output.end());
  const v1::CompareResponse reply = Compare(request);
  ASSERT_EQ(reply.results_size(), 4);
  double previous = 0;
  for (int i = 1; i < 4; ++i) {  // fp16, int8, nf4
    const v1::ForcedScores& forced = reply.results(i).forced();
    EXPECT_EQ(forced.positions(), golden.output.size());
    EXPECT_GT(forced.kl().mean(), previous);
    previous = forced.kl().mean();
    EXPECT_LE(forced.kl().p50(), forced.kl().p99());
    EXPECT_LE(forced.kl().p99(), forced.kl().max());
    EXPECT_GT(forced.top1_agreement(), 0.5);
    EXPECT_GT(forced.top_k_overlap(), 0.5);
    EXPECT_NEAR(forced.log_perplexity_difference(),
                std::log(forced.perplexity() / forced.reference_perplexity()), 1e-9);
    EXPECT_NEAR(forced.reference_perplexity(), reply.results(0).forced().perplexity(), 1e-6);
    EXPECT_FALSE(reply.results(i).has_completion());
  }
  EXPECT_LT(reply.results(1).forced().kl().mean(), 1e-4);
  EXPECT_GT(reply.results(3).forced().kl().mean(), 1e-3);
}

TEST_F(CompareEndToEndTest, PerplexityOfForcedTextIsScores) {
  v1::CompareRequest request = Request(v1::TEACHER_FORCED);
  const GoldenRun golden = GoldenRuns()[5];
  *request.mutable_base() = IdsRequest(golden.prompt, 1);
  request.mutable_forced_ids()->mutable_ids()->Add(golden.output.begin(), golden.output.end());
  const v1::CompareResponse compared = Compare(request);
  v1::ScoreRequest score;
  score.set_variant("nf4");
  *score.mutable_token_ids() = request.base().token_ids();
  score.mutable_token_ids()->MergeFrom(request.forced_ids());
  grpc::ClientContext context;
  v1::ScoreResponse scored;
  ASSERT_TRUE(running_.inference->Score(&context, score, &scored).ok());
  double sum = 0;
  for (size_t i = golden.prompt.size() - 1; i < static_cast<size_t>(scored.tokens_size()); ++i) {
    sum += scored.tokens(static_cast<int>(i)).chosen().logprob();
  }
  const auto count = static_cast<double>(golden.output.size());
  EXPECT_NEAR(compared.results(3).forced().perplexity(), std::exp(-sum / count), 1e-5);
}

TEST_F(CompareEndToEndTest, ControlOfAAIsExactlyZero) {
  for (const v1::CompareMode mode : {v1::FREE_RUNNING, v1::TEACHER_FORCED, v1::BOTH}) {
    v1::CompareRequest request = Request(mode);
    request.add_variants("fp16");
    request.set_aa_control(true);
    request.mutable_base()->mutable_sampling()->set_temperature(1);
    const v1::CompareResponse reply = Compare(request);
    ASSERT_EQ(reply.results_size(), 2);
    const v1::VariantResult& control = reply.results(1);
    EXPECT_TRUE(control.is_control());
    EXPECT_EQ(control.served_by().variant(), "fp16");
    if (mode != v1::TEACHER_FORCED) {
      EXPECT_TRUE(control.divergence().identical());
      EXPECT_EQ(IdsOf(control), IdsOf(reply.results(0)));
    }
    if (mode != v1::FREE_RUNNING) {
      EXPECT_GT(control.forced().positions(), 0u);
      EXPECT_EQ(control.forced().kl().max(), 0);
      EXPECT_EQ(control.forced().top1_agreement(), 1);
      EXPECT_EQ(control.forced().log_perplexity_difference(), 0);
    }
  }
}

TEST_F(CompareEndToEndTest, BothGivesTextAndScoresOverTheReferencesOwnOutput) {
  v1::CompareRequest request = Request(v1::BOTH);
  request.set_timing(v1::SERIAL);
  for (const char* variant : {"nf4", "fp16"}) request.add_variants(variant);
  const v1::CompareResponse reply = Compare(request);
  ASSERT_EQ(reply.results_size(), 2);
  EXPECT_EQ(reply.reference(), "fp16");
  EXPECT_EQ(reply.results(0).served_by().variant(), "nf4");
  EXPECT_TRUE(reply.results(1).is_reference());
  const std::vector<uint32_t> forced(reply.forced_token_ids().begin(),
                                     reply.forced_token_ids().end());
  EXPECT_EQ(forced, IdsOf(reply.results(1)));
  for (const v1::VariantResult& result : reply.results()) {
    EXPECT_FALSE(result.completion().text().empty());
    EXPECT_EQ(result.forced().positions(), forced.size());
  }
}

TEST_F(CompareEndToEndTest, StreamEndsWithWhatCompareGives) {
  const v1::CompareRequest request = Request(v1::BOTH);
  const v1::CompareResponse unary = Compare(request);
  grpc::ClientContext context;
  const auto reader = running_.evaluation->CompareStream(&context, request);
  v1::CompareStreamResponse message;
  std::map<std::string, std::string> texts;
  std::map<std::string, v1::Divergence> divergences;
  v1::CompareResponse summary;
  while (reader->Read(&message)) {
    EXPECT_EQ(summary.results_size(), 0) << "the summary is the last";
    if (message.has_delta()) texts[message.delta().variant()] += message.delta().delta().text();
    if (message.has_divergence()) {
      EXPECT_TRUE(divergences.emplace(message.divergence().variant(), message.divergence()).second);
    }
    if (message.has_summary()) summary = message.summary();
  }
  EXPECT_TRUE(reader->Finish().ok());
  ASSERT_EQ(summary.results_size(), unary.results_size());
  for (int i = 0; i < summary.results_size(); ++i) {
    const v1::VariantResult& result = summary.results(i);
    const std::string& name = result.served_by().variant();
    EXPECT_EQ(result.completion().text(), unary.results(i).completion().text());
    EXPECT_EQ(texts[name], result.completion().text());
    EXPECT_EQ(result.forced().kl().mean(), unary.results(i).forced().kl().mean());
    if (divergences.count(name) > 0) {
      EXPECT_EQ(divergences[name].position(), result.divergence().position());
    }
  }
}

TEST_F(CompareEndToEndTest, F6BadListsOfVariantsAreRefused) {
  const auto code = [&](const std::vector<std::string>& variants) {
    v1::CompareRequest request = Request(v1::FREE_RUNNING);
    for (const std::string& variant : variants) request.add_variants(variant);
    grpc::ClientContext context;
    v1::CompareResponse reply;
    return running_.evaluation->Compare(&context, request, &reply).error_code();
  };
  EXPECT_EQ(code({"fp16", "fp16"}), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code({"fp16"}), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(code({"fp16", "fp8"}), grpc::StatusCode::NOT_FOUND);
}

TEST_F(CompareEndToEndTest, CancelEndsEveryRun) {
  v1::CompareRequest request = Request(v1::BOTH);
  request.mutable_base()->mutable_sampling()->set_max_tokens(450);
  request.mutable_base()->mutable_sampling()->set_ignore_eos(true);
  grpc::ClientContext context;
  const auto reader = running_.evaluation->CompareStream(&context, request);
  v1::CompareStreamResponse message;
  ASSERT_TRUE(reader->Read(&message));
  context.TryCancel();
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  const auto used = [&] {
    const EngineSnapshot snapshot = running_.daemon->snapshot();
    return snapshot.kv_blocks_total - snapshot.kv_blocks_free;
  };
  while (used() > 0) std::this_thread::yield();
}

}  // namespace
}  // namespace vernier
