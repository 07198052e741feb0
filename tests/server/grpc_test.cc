// What a client on the wire sees, before any engine: malformed bytes, sizes, metadata, deadlines,
// health, reflection. The engine answers at once, or when the test says so.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "absl/strings/match.h"
#include "engine/status_payload.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/server/grpc_fixture.h"
#include "tests/server/raw_call.h"
#include "tests/server/raw_http2.h"
#include "vernier/v1/evaluation.pb.h"
#include "vernier/v1/inference.pb.h"

namespace vernier {
namespace {

using testing::Frame;
using ::testing::HasSubstr;
using testing::RawHttp2;
using testing::RawOutcome;

using testing::GrpcTest;
using testing::kGenerate;
using testing::kStream;

const char* const kMethods[] = {
    kGenerate,
    kStream,
    "/vernier.v1.Inference/Score",
    "/vernier.v1.Inference/Tokenize",
    "/vernier.v1.Inference/Detokenize",
    "/vernier.v1.Evaluation/Compare",
    "/vernier.v1.Evaluation/CompareStream",
    "/vernier.v1.Models/ListModels",
    "/vernier.v1.Models/GetModel",
    "/grpc.health.v1.Health/Check",
};

TEST_F(GrpcTest, F13MalformedBytesAreInvalidForEveryMethod) {
  for (const char* method : kMethods) {
    for (const std::string& bytes : {std::string("\xff\xff\xff"), std::string("\x0a\x7f"
                                                                              "abc")}) {
      const RawOutcome outcome = Call(method, bytes);
      EXPECT_EQ(outcome.code, 3) << method;
      EXPECT_THAT(outcome.text, HasSubstr("message")) << method;
    }
  }
  const RawOutcome bad_utf8 = Call(kGenerate, "\x0a\x02\xc3\x28");
  EXPECT_EQ(bad_utf8.code, 3);
  ExpectServes();
}

TEST_F(GrpcTest, RefusalNamesTheFieldItsValueAndTheLimit) {
  v1::GenerateRequest request;
  ASSERT_TRUE(request.ParseFromString(GoodRequest()));
  request.mutable_sampling()->set_top_p(1.5f);
  const RawOutcome outcome = Call(kStream, request.SerializeAsString());
  EXPECT_EQ(outcome.code, 3);
  EXPECT_EQ(outcome.pushback, "");
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(outcome.details));
  google::rpc::BadRequest bad;
  ASSERT_TRUE(details.details(0).UnpackTo(&bad));
  EXPECT_EQ(bad.field_violations(0).field(), "sampling.top_p");
}

TEST_F(GrpcTest, F12UnknownFieldsAreIgnoredAndTheLastOfAOneofWins) {
  v1::GenerateRequest text;
  text.set_prompt("hello");
  const std::string both = text.SerializeAsString() + GoodRequest() + "\x98\x06\x01";
  const RawOutcome outcome = Call(kGenerate, both);
  ASSERT_EQ(outcome.code, 0) << outcome.text;
  v1::GenerateResponse reply;
  ASSERT_TRUE(reply.ParseFromString(outcome.messages.at(0)));
  EXPECT_EQ(reply.prompt_token_ids_size(), 1);
}

TEST_F(GrpcTest, F34UnknownMethodIsUnimplemented) {
  EXPECT_EQ(Call("/vernier.v1.Inference/Train", GoodRequest()).code, 12);
  EXPECT_EQ(Call("/vernier.v1.ModelControl/LoadVariant", "").code, 12);
}

TEST_F(GrpcTest, F14MessageOverTheLimitIsExhaustedAndARetryCannotHelp) {
  const RawOutcome over = Call(kGenerate, std::string((1 << 20) + 1, 'x'));
  EXPECT_EQ(over.code, 8);
  EXPECT_EQ(over.pushback, "-1");
  EXPECT_EQ(Call(kStream, std::string((1 << 20) + 1, 'x')).pushback, "-1");
  EXPECT_EQ(Call(kGenerate, std::string((1 << 20) + (65 << 10), 'x')).code, 8);
  ExpectServes();
}

TEST_F(GrpcTest, F15DeadlineInThePastOrPassedMeanwhile) {
  const auto now = std::chrono::system_clock::now();
  EXPECT_EQ(CallUntil(kGenerate, GoodRequest(), now - std::chrono::seconds(1)).code, 4);
  engine_.holds = true;
  std::thread client([&] {
    EXPECT_EQ(CallUntil(kGenerate, GoodRequest(), now + std::chrono::milliseconds(500)).code, 4);
  });
  Request* request = engine_.Await(0);
  client.join();
  while (request->control->end() == EndReason::kNone) std::this_thread::yield();
  EXPECT_EQ(request->control->end(), EndReason::kDeadline);
  engine_.Finish(0, FinishReason::kDeadline, 0);
  EXPECT_TRUE(state_.calls()->WaitForNone(absl::Seconds(30)));
  engine_.Forget();
}

TEST_F(GrpcTest, F15DeadlineIsClampedToTheServersMostAndHasADefault) {
  engine_.holds = true;
  const auto now = std::chrono::system_clock::now();
  const std::pair<std::chrono::system_clock::time_point, absl::Duration> rows[] = {
      {now + std::chrono::hours(24 * 3650), ServerLimits{}.max_deadline},
      {std::chrono::system_clock::time_point::max(), ServerLimits{}.default_deadline}};
  for (size_t i = 0; i < 2; ++i) {
    std::thread client(
        [&] { EXPECT_EQ(CallUntil(kGenerate, GoodRequest(), rows[i].first).code, 0); });
    const absl::Duration deadline = engine_.Await(i)->deadline;
    const absl::Duration left = deadline - SteadyClock().Now();
    engine_.Finish(i, FinishReason::kLength, 0);
    client.join();
    EXPECT_LE(left, rows[i].second);
    EXPECT_GT(left, rows[i].second - absl::Minutes(1));
  }
  engine_.Forget();
}

TEST_F(GrpcTest, ErrorBeforeTheFirstTokenIsTrailersOnly) {
  RawHttp2 raw(server_->address());
  raw.SendHeaders(1, kStream, {});
  raw.SendMessage(1, "\xff\xff");
  const auto frames = raw.ReadStream(1);
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].type, Frame::kHeaders);
  EXPECT_NE(frames[0].flags & Frame::kEndStream, 0);
  EXPECT_THAT(frames[0].payload, HasSubstr("grpc-status\x01"
                                           "3"));
}

TEST_F(GrpcTest, F63AdminMethodsExistOnTheAdminListenerAlone) {
  const auto admin = testing::Connect(server_->admin_address());
  for (const char* method : {"/vernier.v1.Control/GetServerInfo", "/vernier.v1.Control/GetLoad"}) {
    EXPECT_EQ(Call(method, "").code, 12) << method;
    EXPECT_EQ(testing::RawCall(admin, method, "").code, 0) << method;
    EXPECT_EQ(testing::RawCall(admin, method, "\xff\xff").code, 3) << method;
  }
  EXPECT_EQ(testing::RawCall(admin, kGenerate, GoodRequest()).code, 12);
  EXPECT_EQ(Call("/vernier.v1.Control/Drain", "").code, 12);
  EXPECT_EQ(drains_, 0);
  EXPECT_EQ(testing::RawCall(admin, "/vernier.v1.Control/Drain", "").code, 0);
  EXPECT_EQ(drains_, 1);
}

TEST_F(GrpcTest, F16LargeMetadataIsRefused) {
  RawHttp2 raw(server_->address());
  raw.SendHeaders(1, kGenerate, {{"x-large", std::string(12 << 10, 'x')}});
  raw.SendMessage(1, GoodRequest());
  const auto frames = raw.ReadStream(1);
  ASSERT_FALSE(frames.empty());
  EXPECT_THAT(frames.back().payload, HasSubstr("grpc-status\x01"
                                               "8"));
  ExpectServes();
}

TEST_F(GrpcTest, F16TenThousandHeadersAreRefusedOrTheConnectionIs) {
  RawHttp2 raw(server_->address());
  raw.SendHeaders(1, kGenerate, testing::HeaderList(10'000, {"x-many", "1"}));
  raw.SendMessage(1, GoodRequest());
  for (const Frame& frame : raw.ReadStream(1)) {
    if (frame.type != Frame::kHeaders) continue;
    EXPECT_THAT(frame.payload, ::testing::Not(HasSubstr("grpc-status\x01"
                                                        "0")));
  }
  ExpectServes();
}

TEST_F(GrpcTest, F16BinaryMetadataThatIsNoBase64DoesNoHarm) {
  RawHttp2 raw(server_->address());
  raw.SendHeaders(1, kGenerate, {{"x-odd-bin", "!!!!"}});
  raw.SendMessage(1, GoodRequest());
  raw.ReadStream(1);
  ExpectServes();
}

TEST_F(GrpcTest, ATenantsNameIsChecked) {
  const auto call = [&](const std::string& name) {
    return testing::RawCall(channel_, kGenerate, GoodRequest(), [&](grpc::ClientContext* context) {
      context->AddMetadata("x-vernier-tenant", name);
    });
  };
  EXPECT_EQ(call("acme-1.a_b").code, 0);
  EXPECT_EQ(call("two words").code, 3);
  EXPECT_EQ(call(std::string(65, 'a')).code, 3);
  ExpectServes();
}

TEST_F(GrpcTest, F24CompressedMessageIsUnimplemented) {
  const RawOutcome outcome = testing::RawCall(
      channel_, kGenerate, std::string(1 << 16, 'x'),
      [](grpc::ClientContext* context) { context->set_compression_algorithm(GRPC_COMPRESS_GZIP); });
  EXPECT_EQ(outcome.code, 12);
  ExpectServes();
}

// gRPC looks at the framing alone: what is no message is refused, whatever its type says.
TEST_F(GrpcTest, F34OtherContentTypesAreNoWayIn) {
  testing::RawHttp2 raw(server_->address());
  raw.SendHeaders(1, kGenerate, {}, "application/json");
  raw.SendFrame({testing::Frame::kData, testing::Frame::kEndStream, 1, "{\"prompt\": \"x\"}"});
  for (const testing::Frame& frame : raw.ReadStream(1)) {
    EXPECT_NE(frame.type, testing::Frame::kData) << "an answer";
  }
  ExpectServes();
}

TEST_F(GrpcTest, F34ClientOfHttp1IsClosed) {
  boost::asio::io_context loop;
  auto socket = testing::ConnectSocket(&loop, server_->address());
  boost::asio::write(socket, boost::asio::buffer(std::string("GET / HTTP/1.1\r\nHost: x\r\n\r\n")));
  std::string text;
  boost::system::error_code error;
  boost::asio::read(socket, boost::asio::dynamic_buffer(text), error);
  EXPECT_TRUE(error) << "the server must close";
  ExpectServes();
}

TEST_F(GrpcTest, CancelReachesTheEngineAndIsCountedOnce) {
  engine_.holds = true;
  grpc::ClientContext context;
  std::thread client([&] {
    EXPECT_EQ(testing::RawCall(&context, channel_, kStream, GoodRequest()).code, 1);
  });
  Request* request = engine_.Await(0);
  context.TryCancel();
  client.join();
  while (request->control->end() == EndReason::kNone) std::this_thread::yield();
  EXPECT_EQ(request->control->end(), EndReason::kCancelled);
  engine_.Finish(0, FinishReason::kCancelled, 0);
  EXPECT_TRUE(state_.calls()->WaitForNone(absl::Seconds(30)));
  engine_.Forget();
  double cancelled = 0;
  for (const auto& family : metrics_.Collect()) {
    if (family.name != "vernier_requests_total") continue;
    for (const auto& metric : family.metric) cancelled += metric.counter.value;
  }
  EXPECT_EQ(cancelled, 1);
}

TEST_F(GrpcTest, FullQueueTellsWhenToRetry) {
  auto held = engine_.Reserve(16, 1, 1, {});
  ASSERT_TRUE(held.ok());
  for (const std::string& bytes : {GoodRequest(), std::string("\xff\xff")}) {  // it is not read
    const RawOutcome outcome = Call(kStream, bytes);
    EXPECT_EQ(outcome.code, 8);
    EXPECT_GE(std::stoi(outcome.pushback), 50);
  }
  held->clear();
  EXPECT_EQ(Call(kStream, "\xff\xff").code, 3);
}

TEST_F(GrpcTest, BeforeTheModelIsLoadedCallsAreUnavailable) {
  ServerState loading(ServerLimits{}, AccessPolicy({}), &metrics_, &health_, &SteadyClock());
  GrpcOptions options;
  options.listen = "127.0.0.1:0";
  auto server = GrpcServer::Start(options, &loading);
  ASSERT_TRUE(server.ok());
  const auto channel = testing::Connect((*server)->address());
  for (const char* method : {kGenerate, "/vernier.v1.Models/ListModels"}) {
    const RawOutcome outcome = testing::RawCall(channel, method, "");
    EXPECT_EQ(outcome.code, 14);
    EXPECT_GE(std::stoi(outcome.pushback), 50);
  }
}

TEST_F(GrpcTest, SecondServerOnTheSamePortIsUnavailable) {
  GrpcOptions options;
  options.listen = server_->address();
  EXPECT_EQ(GrpcServer::Start(options, &state_).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(GrpcTest, ReflectionIsOnlyWhereItIsAskedFor) {
  constexpr char kMethod[] = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
  const std::string list("\x3a\0", 2);
  EXPECT_EQ(testing::RawCall(testing::Connect(server_->health_address()), kMethod, list).code, 12);
  GrpcOptions options;
  options.listen = "127.0.0.1:0";
  auto server = GrpcServer::Start(options, &state_);
  ASSERT_TRUE(server.ok());
  EXPECT_EQ(testing::RawCall(testing::Connect((*server)->address()), kMethod, list).code, 12);
}

TEST_F(GrpcTest, ReflectionListsTheServices) {
  // ServerReflectionRequest{list_services: ""}
  const RawOutcome outcome = Call("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                                  std::string("\x3a\0", 2));
  ASSERT_EQ(outcome.code, 0) << outcome.text;
  ASSERT_EQ(outcome.messages.size(), 1u);
  for (const char* service : {"vernier.v1.Inference", "vernier.v1.Evaluation", "vernier.v1.Models",
                              "grpc.health.v1.Health"}) {
    EXPECT_THAT(outcome.messages[0], HasSubstr(service));
  }
}

class HealthServiceTest : public GrpcTest {
 protected:
  using Health = grpc::health::v1::Health;
  using Response = grpc::health::v1::HealthCheckResponse;

  grpc::Status Check(const std::string& address, const std::string& name, Response* response) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(name);
    return Health::NewStub(testing::Connect(address))->Check(&context, request, response);
  }
};

TEST_F(HealthServiceTest, ANameAVariantOnBothListeners) {
  for (const std::string& address : {server_->address(), server_->health_address()}) {
    Response response;
    EXPECT_TRUE(Check(address, "vernier.v1.Inference/nf4", &response).ok());
    EXPECT_EQ(response.status(), Response::SERVING);
    EXPECT_EQ(Check(address, "nobody", &response).error_code(), grpc::StatusCode::NOT_FOUND);
  }
  // The health listener has nothing else.
  EXPECT_EQ(
      testing::RawCall(testing::Connect(server_->health_address()), kGenerate, GoodRequest()).code,
      12);
}

TEST_F(HealthServiceTest, WatchTellsChangesAndUnknownNames) {
  const auto stub = Health::NewStub(channel_);
  grpc::health::v1::HealthCheckRequest request;
  request.set_service("readiness");
  grpc::ClientContext context, other;
  const auto watch = stub->Watch(&context, request);
  Response response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), Response::SERVING);
  health_.Set("readiness", false);
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), Response::NOT_SERVING);
  context.TryCancel();
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::CANCELLED);

  request.set_service("nobody");
  const auto unknown = stub->Watch(&other, request);
  ASSERT_TRUE(unknown->Read(&response));
  EXPECT_EQ(response.status(), Response::SERVICE_UNKNOWN);
  other.TryCancel();
}

TEST_F(HealthServiceTest, DialFindsThePortAliveWhateverItSays) {
  health_.Set("liveness", false);
  EXPECT_TRUE(DialHealth(server_->address(), absl::Seconds(10)).ok());
  const std::string address = server_->address();
  server_->Shutdown(absl::ZeroDuration());
  EXPECT_FALSE(DialHealth(address, absl::Seconds(10)).ok());
}

}  // namespace
}  // namespace vernier
