// A gRPC server whose engine answers at once, or when the test says so, and its client.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "server/grpc_server.h"
#include "server/server_state.h"
#include "tests/server/raw_call.h"
#include "tests/testing/fake_engine.h"
#include "vernier/v1/inference.pb.h"

namespace vernier::testing {

inline constexpr char kGenerate[] = "/vernier.v1.Inference/Generate";
inline constexpr char kStream[] = "/vernier.v1.Inference/GenerateStream";

// Answers each request with one token, unless it is to hold them.
class AnsweringEngine : public FakeEngine {
 public:
  using FakeEngine::FakeEngine;
  void Submit(std::unique_ptr<Request> request) override {
    if (holds) return FakeEngine::Submit(std::move(request));
    TokenEvent token;
    token.id = 'a';
    FinishEvent end;
    end.reason = FinishReason::kLength;
    end.completion_tokens = 1;
    request->reservation.Release();
    if (!request->score) request->sink->OnToken(token);
    request->sink->OnFinish(end);
  }
  std::atomic<bool> holds{false};
};

// A server on free ports around an engine that answers at once.
class GrpcTest : public ::testing::Test {
 protected:
  GrpcTest() : GrpcTest(WithReflection(), AccessPolicy({}), {}) {}
  GrpcTest(GrpcOptions options, AccessPolicy access, const ServerLimits& limits)
      : state_(limits, std::move(access), &metrics_, &health_, &SteadyClock()) {
    served_.model = model_.get();
    served_.engine = &engine_;
    served_.clock = &SteadyClock();
    served_.writers = &writers_;
    served_.tasks = &tasks_;
    served_.metrics = &metrics_;
    served_.next_request_id = &next_id_;
    state_.SetControl({.backend = "fake",
                       .draining = [] { return false; },
                       .drain = [this] { drains_.fetch_add(1); }});
    state_.SetServed(&served_, [] {
      v1::Model model;
      model.set_name("fake");
      return model;
    });
    health_.Set("readiness", true);
    health_.Set("vernier.v1.Inference/nf4", true);
    options.listen = options.health_listen = options.admin_listen = "127.0.0.1:0";
    auto server = GrpcServer::Start(options, &state_);
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = Connect(server_->address());
  }

  static GrpcOptions WithReflection() {
    GrpcOptions options;
    options.reflection = true;
    return options;
  }
  static std::string GoodRequest() {
    v1::GenerateRequest request;
    request.mutable_token_ids()->add_ids(1);
    request.mutable_sampling()->set_max_tokens(2);
    return request.SerializeAsString();
  }
  RawOutcome Call(const std::string& method, const std::string& bytes) {
    return RawCall(channel_, method, bytes);
  }
  RawOutcome CallUntil(const std::string& method, const std::string& bytes,
                       std::chrono::system_clock::time_point deadline) {
    return RawCall(channel_, method, bytes,
                   [&](grpc::ClientContext* context) { context->set_deadline(deadline); });
  }
  void ExpectServes() { EXPECT_EQ(Call(kGenerate, GoodRequest()).code, 0); }

  std::unique_ptr<Model> model_ = FakeModel(true);
  AnsweringEngine engine_{{16, 100000}, 64, 3, &SteadyClock()};
  Metrics metrics_{"fake", {{"fp16", "fp16"}, {"int8", "int8"}, {"nf4", "nf4"}}, 64};
  WriterPool writers_{2, absl::Hours(1)};
  TaskPool tasks_{1};
  std::atomic<uint64_t> next_id_{1};
  Served served_;
  HealthBoard health_;
  std::atomic<int> drains_{0};
  ServerState state_;
  std::unique_ptr<GrpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

}  // namespace vernier::testing
