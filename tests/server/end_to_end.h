// The whole daemon on free ports with stories260K in four formats, and a client for each service.
#pragma once

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "grpc/health/v1/health.grpc.pb.h"
#include "kernels/make_backend.h"
#include "server/daemon.h"
#include "tests/server/raw_call.h"
#include "tests/testing/story_model.h"
#include "vernier/v1/evaluation.grpc.pb.h"
#include "vernier/v1/inference.grpc.pb.h"
#include "vernier/v1/models.grpc.pb.h"

namespace vernier::testing {

inline constexpr int kStoryContext = 512;

// A daemon that serves, and its stubs.
struct RunningDaemon {
  std::unique_ptr<Daemon> daemon;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::Inference::Stub> inference;
  std::unique_ptr<v1::Evaluation::Stub> evaluation;
  std::unique_ptr<v1::Models::Stub> models;
};

inline ServerConfig StoryConfig(const std::string& path) {
  ServerConfig config;
  config.model_path = path;
  config.model_name = "stories";
  for (const FormatId format : {FormatId::kF32, FormatId::kF16, FormatId::kInt8, FormatId::kNf4}) {
    config.variants.push_back(DefaultVariant(format));
  }
  config.listen = config.http = config.health = "127.0.0.1:0";
  config.engine.kv_bytes = 16 << 20;
  config.threads = 2;
  return config;
}

inline RunningDaemon StartDaemon(const ServerConfig& config) {
  RunningDaemon running;
  auto bound = Daemon::Bind(config, &SteadyClock());
  EXPECT_TRUE(bound.ok()) << bound.status();
  if (!bound.ok()) return running;
  BackendOptions options;
  options.kind = "cpu";
  options.threads = config.threads;
  auto backend = MakeBackend(options);
  EXPECT_TRUE(backend.ok()) << backend.status();
  if (!backend.ok()) return running;
  if (!config.admin.empty()) {
    options.threads = 1;
    auto packer = MakeBackend(options);
    EXPECT_TRUE(packer.ok()) << packer.status();
    if (packer.ok()) (*bound)->SetPacker(*std::move(packer));
  }
  const absl::Status loaded = (*bound)->Load(
      *std::move(backend), [] { return false; },
      [](const absl::Status& status) { ADD_FAILURE() << "engine lost: " << status; });
  EXPECT_TRUE(loaded.ok()) << loaded;
  if (!loaded.ok()) return running;
  running.daemon = *std::move(bound);
  running.channel = Connect(running.daemon->grpc_address());
  running.inference = v1::Inference::NewStub(running.channel);
  running.evaluation = v1::Evaluation::NewStub(running.channel);
  running.models = v1::Models::NewStub(running.channel);
  return running;
}

// A status of grpc.health.v1.
inline int HealthOf(const RunningDaemon& running, const std::string& service) {
  const auto health = grpc::health::v1::Health::NewStub(running.channel);
  grpc::ClientContext context;
  grpc::health::v1::HealthCheckRequest request;
  grpc::health::v1::HealthCheckResponse reply;
  request.set_service(service);
  EXPECT_TRUE(health->Check(&context, request, &reply).ok()) << service;
  return reply.status();
}

struct GoldenRun {
  std::vector<uint32_t> prompt, output;
  std::string text;  // prompt and output
};

inline std::vector<GoldenRun> GoldenRuns() {
  std::vector<GoldenRun> runs;
  for (const auto& line : ReadJsonLines(TestDataPath("stories260K/greedy_golden.jsonl"))) {
    runs.push_back({line["prompt_ids"].get<std::vector<uint32_t>>(),
                    line["greedy_ids"].get<std::vector<uint32_t>>(), line["text"]});
  }
  return runs;
}

inline v1::GenerateRequest IdsRequest(const std::vector<uint32_t>& ids, uint32_t max_tokens) {
  v1::GenerateRequest request;
  request.mutable_token_ids()->mutable_ids()->Add(ids.begin(), ids.end());
  request.mutable_sampling()->set_max_tokens(max_tokens);
  request.mutable_sampling()->set_temperature(0);
  return request;
}

// A finished stream.
struct StreamResult {
  grpc::Status status;
  v1::GenerateStart start;
  std::map<uint32_t, std::string> text;  // by sample
  std::map<uint32_t, std::vector<uint32_t>> ids;
  std::map<uint32_t, v1::Finish> finish;
  std::vector<v1::TokenDetail> logprobs, prompt_logprobs;
  int messages = 0;
};

// `started`: the start message has been read already.
inline StreamResult ReadAll(grpc::ClientReader<v1::GenerateStreamResponse>* reader, bool started) {
  StreamResult out;
  out.messages = started ? 1 : 0;
  v1::GenerateStreamResponse message;
  while (reader->Read(&message)) {
    EXPECT_EQ(message.has_start(), out.messages == 0) << "start is the first and only the first";
    ++out.messages;
    if (message.has_start()) out.start = message.start();
    const v1::Delta& delta = message.delta();
    out.text[delta.index()] += delta.text();
    auto& ids = out.ids[delta.index()];
    ids.insert(ids.end(), delta.token_ids().begin(), delta.token_ids().end());
    out.logprobs.insert(out.logprobs.end(), delta.logprobs().begin(), delta.logprobs().end());
    const auto& prompt = message.prompt_logprobs().tokens();
    out.prompt_logprobs.insert(out.prompt_logprobs.end(), prompt.begin(), prompt.end());
    if (message.has_finish()) {
      EXPECT_TRUE(out.finish.emplace(message.finish().index(), message.finish()).second);
    }
  }
  out.status = reader->Finish();
  return out;
}

inline StreamResult Stream(const RunningDaemon& running, const v1::GenerateRequest& request) {
  grpc::ClientContext context;
  const auto reader = running.inference->GenerateStream(&context, request);
  return ReadAll(reader.get(), /*started=*/false);
}

inline std::pair<grpc::Status, v1::GenerateResponse> Generate(const RunningDaemon& running,
                                                              const v1::GenerateRequest& request) {
  grpc::ClientContext context;
  v1::GenerateResponse reply;
  grpc::Status status = running.inference->Generate(&context, request, &reply);
  return {std::move(status), std::move(reply)};
}

// One daemon for the tests of a suite: loading it takes longer than they do.
class EndToEndTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = std::make_unique<StoryModel>();
    running_ = StartDaemon(StoryConfig(model_->path()));
  }
  static void TearDownTestSuite() {
    if (running_.daemon != nullptr) {
      running_.daemon->Drain([] { return false; });
      // Nothing of any test is left behind.
      const EngineSnapshot snapshot = running_.daemon->snapshot();
      EXPECT_EQ(snapshot.kv_blocks_free, snapshot.kv_blocks_total);
      running_.daemon->Stop();
    }
    running_ = {};
    model_.reset();
  }
  void SetUp() override { ASSERT_NE(running_.daemon, nullptr); }
  // The next good request gives its reference tokens.
  void TearDown() override {
    if (running_.daemon == nullptr) return;
    const GoldenRun golden = GoldenRuns().front();
    v1::GenerateRequest request = IdsRequest(golden.prompt, 8);
    request.set_variant("fp32");
    const auto [status, reply] = Generate(running_, request);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_TRUE(std::equal(reply.completions(0).token_ids().begin(),
                           reply.completions(0).token_ids().end(), golden.output.begin()));
  }

  static inline std::unique_ptr<StoryModel> model_;
  static inline RunningDaemon running_;
};

}  // namespace vernier::testing
