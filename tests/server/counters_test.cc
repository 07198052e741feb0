// After a known mix of calls every counter adds up.
#include <gmock/gmock.h>

#include <thread>

#include "tests/server/end_to_end.h"
#include "tests/server/metrics_page.h"

namespace vernier {
namespace {

using testing::IdsRequest;
using testing::MetricsPage;

std::string Variant(const std::string& name) { return "variant=\"" + name + "\""; }
std::string Method(const std::string& name) { return "method=\"" + name + "\""; }
std::string Code(const std::string& name) { return "code=\"" + name + "\""; }
std::string Reason(const std::string& name) { return "finished_reason=\"" + name + "\""; }

class CountersTest : public ::testing::Test {
 protected:
  void SetUp() override {
    running_ = testing::StartDaemon(testing::StoryConfig(model_.path()));
    ASSERT_NE(running_.daemon, nullptr);
  }
  // As it is once every call has ended and the page is new.
  MetricsPage Settled() {
    running_.daemon->Drain([] { return false; });
    return MetricsPage(running_.daemon->RenderPage());
  }
  v1::GenerateRequest Request(const std::string& variant, uint32_t prompt, uint32_t tokens) {
    v1::GenerateRequest request = IdsRequest({}, tokens);
    for (uint32_t i = 0; i < prompt; ++i) request.mutable_token_ids()->add_ids(300 + i % 200);
    request.set_variant(variant);
    request.mutable_sampling()->set_ignore_eos(true);
    return request;
  }
  int CodeOf(const v1::GenerateRequest& request) {
    return testing::Generate(running_, request).first.error_code();
  }

  testing::StoryModel model_;
  testing::RunningDaemon running_;
};

TEST_F(CountersTest, EveryRequestIsCountedOnceByItsOutcome) {
  EXPECT_EQ(CodeOf(Request("fp16", 40, 10)), 0);
  EXPECT_EQ(CodeOf(Request("fp16", 300, 20)), 0);  // a prompt of more than one step
  v1::GenerateRequest samples = Request("nf4", 5, 7);
  samples.mutable_sampling()->set_n(3);
  EXPECT_TRUE(testing::Stream(running_, samples).status.ok());
  EXPECT_EQ(CodeOf(Request("nobody", 5, 7)), 5);
  EXPECT_EQ(CodeOf(Request("fp16", 511, 7)), 3);
  v1::GenerateRequest text = Request("fp16", 0, 7);
  text.set_prompt(std::string(2000, 'x'));
  EXPECT_EQ(CodeOf(text), 3);  // known only once it is tokenized

  v1::GenerateRequest cancelled = Request("int8", 5, 500);
  grpc::ClientContext context, late;
  const auto reader = running_.inference->GenerateStream(&context, cancelled);
  v1::GenerateStreamResponse message;
  ASSERT_TRUE(reader->Read(&message));
  context.TryCancel();
  EXPECT_EQ(testing::ReadAll(reader.get(), true).status.error_code(), 1);

  v1::GenerateRequest deadline = Request("int8", 5, 500);
  deadline.mutable_sampling()->set_n(64);
  late.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(300));
  v1::GenerateResponse none;
  EXPECT_EQ(running_.inference->Generate(&late, deadline, &none).error_code(), 4);

  const MetricsPage page = Settled();
  const auto requests = [&](std::vector<std::string> labels) {
    return page.Sum("vernier_requests_total", labels);
  };
  EXPECT_EQ(requests({Variant("fp16"), Code("OK"), Reason("length")}), 2);
  EXPECT_EQ(requests({Variant("nf4"), Method("GenerateStream"), Reason("length")}), 3);
  EXPECT_EQ(requests({Variant("none"), Code("NOT_FOUND"), Reason("rejected")}), 1);
  EXPECT_EQ(requests({Code("INVALID_ARGUMENT"), Reason("rejected")}), 2);
  EXPECT_EQ(requests({Variant("int8"), Code("CANCELLED"), Reason("cancelled")}), 1);
  EXPECT_EQ(requests({Variant("int8"), Code("DEADLINE_EXCEEDED"), Reason("deadline")}), 64);
  EXPECT_EQ(requests({}), 2 + 3 + 1 + 2 + 1 + 64);
  EXPECT_EQ(page.Sum("vernier_grpc_calls_started_total", {Method("Generate")}), 6);
  EXPECT_EQ(page.Sum("vernier_grpc_calls_started_total", {Method("GenerateStream")}), 2);
  EXPECT_EQ(page.Sum("vernier_grpc_calls_started_total"),
            page.Sum("vernier_grpc_call_duration_seconds_count"));

  // Tokens: of the requests that ended by length, and rows of their steps: a prompt's last row
  // gives the first token.
  EXPECT_EQ(page.Sum("vernier_prompt_tokens_total", {Variant("fp16")}), 340);
  EXPECT_EQ(page.Sum("vernier_generation_tokens_total", {Variant("fp16")}), 30);
  EXPECT_EQ(page.Sum("vernier_step_tokens_sum", {Variant("fp16")}),
            340 + 30 - 2 - page.Sum("vernier_prefix_cache_hits_total", {Variant("fp16")}));
  EXPECT_EQ(page.Sum("vernier_prompt_tokens_total", {Variant("nf4")}), 15);
  EXPECT_EQ(page.Sum("vernier_generation_tokens_total", {Variant("nf4")}), 21);
  EXPECT_EQ(page.Sum("vernier_step_tokens_sum", {Variant("nf4")}), 15 + 21 - 3);
  for (const char* name : {"fp32", "fp16", "int8", "nf4"}) {
    SCOPED_TRACE(name);
    const auto sum = [&](const std::string& metric) { return page.Sum(metric, {Variant(name)}); };
    EXPECT_EQ(sum("vernier_request_prompt_tokens_sum"), sum("vernier_prompt_tokens_total"));
    EXPECT_EQ(sum("vernier_request_generation_tokens_sum"), sum("vernier_generation_tokens_total"));
    // Every request that reached the engine has a duration.
    EXPECT_EQ(sum("vernier_request_duration_seconds_count"),
              sum("vernier_requests_total") -
                  page.Sum("vernier_requests_total", {Variant(name), Reason("rejected")}));
    EXPECT_EQ(sum("vernier_step_duration_seconds_count"), sum("vernier_step_tokens_count"));
    EXPECT_EQ(sum("vernier_requests_waiting") + sum("vernier_requests_running"), 0);
    EXPECT_EQ(sum("vernier_queued_prompt_tokens"), 0);
    EXPECT_EQ(page.Sum("vernier_kv_cache_blocks", {Variant(name), "state=\"used\""}), 0);
    EXPECT_EQ(sum("vernier_variant_state"), 1);
  }
  EXPECT_EQ(page.Sum("vernier_pod_kv_cache_usage_ratio"), 0);
  EXPECT_GE(page.Sum("vernier_cancel_to_free_seconds_count"), 1);
}

TEST_F(CountersTest, CompareAndScoreAreCountedByRequestAndCall) {
  v1::CompareRequest compare;
  *compare.mutable_base() = Request("", 10, 12);
  v1::CompareResponse compared;
  grpc::ClientContext context, scoring;
  ASSERT_TRUE(running_.evaluation->Compare(&context, compare, &compared).ok());
  v1::ScoreRequest score;
  for (uint32_t i = 0; i < 100; ++i) score.mutable_token_ids()->add_ids(300 + i % 200);
  score.set_window(50);
  score.set_variant("nf4");
  v1::ScoreResponse scored;
  ASSERT_TRUE(running_.inference->Score(&scoring, score, &scored).ok());
  const MetricsPage page = Settled();
  // Each variant wrote once and was scored once; the score took two windows.
  EXPECT_EQ(page.Sum("vernier_requests_total", {Method("Compare"), Code("OK")}), 8);
  EXPECT_EQ(page.Sum("vernier_requests_total", {Method("Score"), Code("OK")}), 2);
  EXPECT_EQ(page.Sum("vernier_grpc_calls_started_total", {Method("Score")}), 1);
  EXPECT_EQ(page.Sum("vernier_generation_tokens_total"), 4 * 12);
  EXPECT_EQ(page.Sum("vernier_compare_token_agreement_ratio_count"), 3);
  double parted = 0;
  for (const v1::VariantResult& result : compared.results()) {
    parted += result.has_divergence() && !result.divergence().identical();
  }
  EXPECT_EQ(page.Sum("vernier_compare_divergence_position_tokens_count"), parted);
}

TEST_F(CountersTest, PageIsServedOverHttpWithinItsBudgetOfSeries) {
  const MetricsPage page = MetricsPage::Scrape(running_.daemon->http_address());
  EXPECT_EQ(page.Sum("vernier_ready"), 1);
  EXPECT_EQ(page.Sum("vernier_http_connections"), 1);
  EXPECT_GT(page.Sum("process_resident_memory_bytes"), 0);
  EXPECT_GT(page.Sum("vernier_engine_heartbeat_timestamp_seconds"), 0);
  EXPECT_EQ(testing::HttpGet(running_.daemon->http_address(), "/healthz"), "ok\n");
  EXPECT_LE(page.size(), 4000u);  // four variants; three are held to 3000 in metrics_test
}

TEST_F(CountersTest, MemoryComponentsAreWhatModelsSays) {
  const MetricsPage page = MetricsPage::Scrape(running_.daemon->http_address());
  grpc::ClientContext context;
  v1::Model model;
  ASSERT_TRUE(running_.models->GetModel(&context, {}, &model).ok());
  const auto bytes = [&](const std::string& component) {
    return page.Sum("vernier_memory_bytes", {"component=\"" + component + "\""});
  };
  EXPECT_EQ(bytes("weights"), static_cast<double>(model.weight_bytes()));
  EXPECT_EQ(bytes("kv"), static_cast<double>(model.kv_pool_bytes()));
  EXPECT_EQ(bytes("workspace"), static_cast<double>(model.workspace_bytes()));
  EXPECT_GT(bytes("tokenizer"), 0);
}

}  // namespace
}  // namespace vernier
