// SmolLM2-135M-Instruct in three precisions, where deploy/fetch_model.sh has put its file.
#include <gmock/gmock.h>

#include <cmath>
#include <csignal>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "tests/server/end_to_end.h"
#include "tests/server/metrics_page.h"
#include "tests/testing/child_process.h"

namespace vernier {
namespace {

using ::testing::HasSubstr;

// One process for the suite: loading takes seconds.
class SmolLm2Test : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const std::string model = testing::ModelPath("SmolLM2-135M-Instruct.Q4_1.gguf");
    if (model.empty()) return;
    daemon_ = std::make_unique<testing::ChildProcess>(std::vector<std::string>{
        testing::PathFrom("VERNIER_BIN", "vernierd"), "--model", model, "--name", "smollm2",
        "--variants", "fp16,int8,nf4", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0",
        "--kv-bytes", "67108864", "--max-context", "1024"});
    const std::string ready = daemon_->ReadLine();
    for (const absl::string_view word : absl::StrSplit(ready, ' ')) {
      if (absl::StartsWith(word, "grpc=")) grpc_ = std::string(word.substr(5));
      if (absl::StartsWith(word, "http=")) http_ = std::string(word.substr(5));
    }
    client_.channel = testing::Connect(grpc_);
    client_.inference = v1::Inference::NewStub(client_.channel);
    client_.evaluation = v1::Evaluation::NewStub(client_.channel);
    client_.models = v1::Models::NewStub(client_.channel);
  }
  static void TearDownTestSuite() {
    if (daemon_ != nullptr) {
      daemon_->Signal(SIGTERM);
      EXPECT_EQ(daemon_->Wait(), 0);
    }
    client_ = {};
    daemon_.reset();
  }
  void SetUp() override {
    if (daemon_ == nullptr) GTEST_SKIP() << "SmolLM2-135M-Instruct.Q4_1.gguf was not fetched";
    ASSERT_FALSE(grpc_.empty()) << "the daemon did not start";
  }
  static v1::GenerateRequest Ask(const std::string& question, uint32_t max_tokens) {
    v1::GenerateRequest request;
    auto* message = request.mutable_chat()->add_messages();
    message->set_role("user");
    message->set_content(question);
    request.mutable_sampling()->set_max_tokens(max_tokens);
    request.mutable_sampling()->set_temperature(0);
    return request;
  }

  static inline std::unique_ptr<testing::ChildProcess> daemon_;
  static inline std::string grpc_, http_;
  static inline testing::RunningDaemon client_;
};

TEST_F(SmolLm2Test, ChatAnswersInEveryPrecisionAndSaysWhereItsWeightsComeFrom) {
  for (const char* variant : {"fp16", "int8", "nf4"}) {
    v1::GenerateRequest request = Ask("What is the capital of France?", 24);
    request.set_variant(variant);
    const testing::StreamResult answer = testing::Stream(client_, request);
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_THAT(answer.text.at(0), HasSubstr("Paris")) << variant;
    EXPECT_EQ(answer.start.served_by().source(), "q4_1 (dequantized)");
    EXPECT_EQ(answer.start.served_by().precision(), variant);
  }
}

TEST_F(SmolLm2Test, CompareSaysThatItsReferenceIsItselfQuantized) {
  v1::CompareRequest request;
  *request.mutable_base() = Ask("Name three colours.", 16);
  v1::CompareResponse reply;
  grpc::ClientContext context;
  const grpc::Status status = client_.evaluation->Compare(&context, request, &reply);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(reply.reference_is_quantized());
  EXPECT_EQ(reply.reference(), "fp16");
  ASSERT_EQ(reply.results_size(), 3);
  EXPECT_GT(reply.results(1).forced().kl().mean(), 0);
  EXPECT_GT(reply.results(2).forced().kl().mean(), reply.results(1).forced().kl().mean());
  EXPECT_LT(reply.results(2).forced().kl().mean(), 1);
}

TEST_F(SmolLm2Test, TrackedMemoryIsTheGrowthOfTheProcessWithinTwoPercent) {
  const auto page = testing::MetricsPage::Scrape(http_);
  const double growth = page.Sum("vernier_memory_bytes");
  const double residual = page.Sum("vernier_memory_bytes", {"component=\"residual\""});
  EXPECT_GT(growth, 300e6);
  // A sanitizer has memory of its own beside every allocation.
  if (!testing::kSanitized) {
    EXPECT_LE(std::abs(residual), 0.02 * growth) << residual << " of " << growth;
  }
  v1::Model model;
  grpc::ClientContext context;
  ASSERT_TRUE(client_.models->GetModel(&context, {}, &model).ok());
  EXPECT_TRUE(model.source_is_quantized());
  EXPECT_GT(model.shared_weight_bytes(), 50e6);  // the embedding, in all three
}

}  // namespace
}  // namespace vernier
