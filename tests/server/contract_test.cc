// Every code of the contract, as a stock client with the shipped retry policy meets it: what it is
// told, and that it tries again where that can help and nowhere else (R17).
//
// The policy's own backoff is a minute here: a client that succeeds within the test was told when.
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <thread>

#include "tests/server/grpc_fixture.h"
#include "tests/server/raw_call.h"
#include "vernier/v1/evaluation.pb.h"
#include "vernier/v1/inference.pb.h"

namespace vernier {
namespace {

using testing::GrpcTest;
using testing::kGenerate;
using testing::RawOutcome;

// Codes and attempts of deploy/helm/vernier/files/service-config.json.
constexpr char kPolicy[] = R"({"methodConfig": [{
  "name": [{"service": "vernier.v1.Inference"}, {"service": "vernier.v1.Evaluation"}],
  "retryPolicy": {"maxAttempts": 4, "initialBackoff": "60s", "maxBackoff": "60s",
                  "backoffMultiplier": 1,
                  "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]}}]})";

// printf %s open-sesame | sha256sum, and of "low".
AccessPolicy Keys() {
  return AccessPolicy({{"all", "d7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7",
                        ServiceNames(), ""},
                       {"low",
                        "6c1ff09db3a73dc4a854f695d20d174a848d55f2d743bab2ee1f8fc75be454f3",
                        {"Models"},
                        ""}});
}

class ContractTest : public GrpcTest {
 protected:
  explicit ContractTest(AccessPolicy access = AccessPolicy({}))
      : GrpcTest({}, std::move(access), {}), client_(WithRetries(server_->address())) {}

  static std::shared_ptr<grpc::Channel> WithRetries(const std::string& address) {
    grpc::ChannelArguments arguments;
    arguments.SetServiceConfigJSON(kPolicy);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  }
  double Sum(const std::string& family_name, const std::string& code = "") const {
    double sum = 0;
    for (const auto& family : metrics_.Collect()) {
      if (family.name != family_name) continue;
      for (const auto& metric : family.metric) {
        for (const auto& label : metric.label) {
          if (label.name == "code" && label.value != code) continue;
          if (label.name != (code.empty() ? "method" : "code")) continue;
          sum += metric.counter.value + static_cast<double>(metric.histogram.sample_count);
        }
      }
    }
    return sum;
  }
  double Attempts() const { return Sum("vernier_grpc_calls_started_total"); }
  // Until a call has been answered with `code`.
  void AwaitRefusal(const std::string& code) const {
    while (Sum("vernier_grpc_call_duration_seconds", code) < 1) std::this_thread::yield();
  }
  // Refused with `code`, told no time to come back, and not tried again.
  void ExpectFinal(int code, const std::string& method, const std::string& bytes,
                   const std::function<void(grpc::ClientContext*)>& prepare = nullptr) {
    grpc::ClientContext context;
    if (prepare) prepare(&context);
    ExpectFinal(code, method, bytes, &context);
  }
  void ExpectFinal(int code, const std::string& method, const std::string& bytes,
                   grpc::ClientContext* context) {
    const double before = Attempts();
    const RawOutcome outcome = testing::RawCall(context, client_, method, bytes);
    EXPECT_EQ(outcome.code, code) << outcome.text;
    EXPECT_TRUE(outcome.pushback.empty() || outcome.pushback == "-1") << outcome.pushback;
    EXPECT_LE(Attempts() - before, 1);
  }
  // `refused` until `relieve`, and then answered: by a retry that was told when.
  void ExpectRetried(const std::string& refused, const std::function<void()>& relieve) {
    const double before = Attempts();
    RawOutcome outcome;
    std::thread client([&] { outcome = testing::RawCall(client_, kGenerate, GoodRequest()); });
    AwaitRefusal(refused);
    relieve();
    client.join();
    EXPECT_EQ(outcome.code, 0) << outcome.text;
    EXPECT_GE(Attempts() - before, 2);
  }

  std::shared_ptr<grpc::Channel> client_;
};

TEST_F(ContractTest, InvalidArgumentNotFoundAndFailedPreconditionStayWhatTheyAre) {
  ExpectFinal(3, kGenerate, "\xff\xff");
  v1::GenerateRequest unknown;
  unknown.ParseFromString(GoodRequest());
  unknown.set_variant("fp8");
  ExpectFinal(5, kGenerate, unknown.SerializeAsString());
  v1::CompareRequest alone;
  alone.mutable_base()->ParseFromString(GoodRequest());
  alone.add_variants("nf4");
  ExpectFinal(9, "/vernier.v1.Evaluation/Compare", alone.SerializeAsString());
  ExpectServes();
}

TEST_F(ContractTest, UnimplementedIsNotRetried) {
  ExpectFinal(12, "/vernier.v1.Inference/Dream", "");
  ExpectFinal(12, kGenerate, GoodRequest(), [](grpc::ClientContext* context) {
    context->set_compression_algorithm(GRPC_COMPRESS_GZIP);
  });
  ExpectServes();
}

class ContractKeysTest : public ContractTest {
 protected:
  ContractKeysTest() : ContractTest(Keys()) {}
};

TEST_F(ContractKeysTest, UnauthenticatedAndPermissionDeniedAreNotRetried) {
  ExpectFinal(16, kGenerate, GoodRequest());
  const auto low = [](grpc::ClientContext* context) {
    context->AddMetadata("authorization", "Bearer low");
  };
  ExpectFinal(7, kGenerate, GoodRequest(), low);
}

TEST_F(ContractTest, ResourceExhaustedIsRetriedWhenTheServerSaysWhen) {
  auto held = engine_.Reserve(16, 1, 1, {});
  ASSERT_TRUE(held.ok());
  ExpectRetried("RESOURCE_EXHAUSTED", [&] { held->clear(); });
}

TEST_F(ContractTest, ResourceExhaustedThatARetryCannotHelpIsNotRetried) {
  ExpectFinal(8, kGenerate, std::string((1 << 20) + 1, 'x'));
  ExpectServes();
}

TEST_F(ContractTest, UnavailableIsRetriedWhenTheServerSaysWhen) {
  ServerState loading(ServerLimits{}, AccessPolicy({}), &metrics_, &health_, &SteadyClock());
  GrpcOptions options;
  options.listen = "127.0.0.1:0";
  auto server = GrpcServer::Start(options, &loading);
  ASSERT_TRUE(server.ok()) << server.status();
  client_ = WithRetries((*server)->address());
  ExpectRetried("UNAVAILABLE", [&] { loading.SetServed(&served_, [] { return v1::Model(); }); });
}

TEST_F(ContractTest, DeadlineExceededIsNotRetried) {
  engine_.holds = true;
  ExpectFinal(4, kGenerate, GoodRequest(), [](grpc::ClientContext* context) {
    context->set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(100));
  });
  engine_.Finish(0, FinishReason::kDeadline, 0);
  engine_.holds = false;
  ExpectServes();
}

TEST_F(ContractTest, CancelledIsNotRetried) {
  engine_.holds = true;
  grpc::ClientContext context;
  std::thread client([&] { ExpectFinal(1, kGenerate, GoodRequest(), &context); });
  engine_.Await(0);
  context.TryCancel();
  client.join();
  engine_.Finish(0, FinishReason::kCancelled, 0);
  engine_.holds = false;
  ExpectServes();
}

TEST_F(ContractTest, InternalIsOneRequestsAndNotRetried) {
  engine_.holds = true;
  std::thread client([&] { ExpectFinal(13, kGenerate, GoodRequest()); });
  engine_.Finish(0, FinishReason::kError, 0, absl::InternalError("NaN"));
  client.join();
  engine_.holds = false;
  ExpectServes();
}

}  // namespace
}  // namespace vernier
