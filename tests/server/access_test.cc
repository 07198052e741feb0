// Keys: what each opens, and that nothing but health is open without one.
#include "server/access.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>

#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/arrival.h"
#include "tests/server/grpc_fixture.h"
#include "vernier/v1/control.pb.h"
#include "vernier/v1/evaluation.pb.h"
#include "vernier/v1/model_control.pb.h"
#include "vernier/v1/models.pb.h"

namespace vernier {
namespace {

using testing::GrpcTest;
using testing::kGenerate;
using testing::kStream;
using testing::RawOutcome;

// printf %s open-sesame | sha256sum, and so on.
constexpr char kAll[] = "open-sesame";
constexpr char kAllDigest[] = "d7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7";
constexpr char kLow[] = "experiments-only";
constexpr char kLowDigest[] = "1e0a2a5c7b8880d41e77e7f476b715922784a995533b721d90bf09f05a061fa2";

AccessPolicy TwoKeys(const std::string& low_digest) {
  return AccessPolicy(
      {{"low", low_digest, {"Experiments"}, ""}, {"all", kAllDigest, ServiceNames(), "acme"}});
}

std::string Bearer(const std::string& key) { return absl::StrCat("Bearer ", key); }

TEST(AccessPolicyTest, AKeyOpensItsServicesAndDecidesTheTenant) {
  const AccessPolicy policy({{"all", kAllDigest, {"Inference", "Models"}, "acme"}});
  EXPECT_FALSE(policy.open());
  EXPECT_EQ(policy.Check("Inference", Bearer(kAll)).value(), "acme");
  EXPECT_EQ(policy.Check("Models", absl::StrCat("bearer ", kAll)).value(), "acme");
  EXPECT_EQ(policy.Check("Evaluation", Bearer(kAll)).status().code(),
            absl::StatusCode::kPermissionDenied);
  // A method without a service, such as one that was forgotten, is closed to everybody.
  EXPECT_EQ(policy.Check("", Bearer(kAll)).status().code(), absl::StatusCode::kPermissionDenied);
}

TEST(AccessPolicyTest, WhatIsNoKnownKeyIsUnauthenticated) {
  const AccessPolicy policy({{"all", kAllDigest, {"Inference"}, ""}});
  for (const std::string& bad :
       {std::string(), std::string(kAll), Bearer(""), Bearer("open-sesam"), Bearer("open-sesame "),
        Bearer(kAllDigest), absl::StrCat("Basic ", kAll), std::string("Bearer")}) {
    EXPECT_EQ(policy.Check("Inference", bad).status().code(), absl::StatusCode::kUnauthenticated)
        << bad;
  }
}

TEST(AccessPolicyTest, WithoutKeysEverythingIsOpen) {
  EXPECT_EQ(AccessPolicy({}).Check("Inference", "").value(), "");
}

TEST(ArrivalTest, APeersAddressHasNoPort) {
  EXPECT_EQ(AddressOfPeer("ipv4:10.0.0.1:5000"), "ipv4:10.0.0.1");
  EXPECT_EQ(AddressOfPeer("ipv6:%5B::1%5D:5000"), "ipv6:%5B::1%5D");
  EXPECT_EQ(AddressOfPeer("unix:"), "unix:");
}

class KeysTest : public GrpcTest {
 protected:
  KeysTest() : GrpcTest({}, TwoKeys(kLowDigest), {}) {}

  static RawOutcome CallWith(const std::shared_ptr<grpc::Channel>& channel,
                             const std::string& method, const std::vector<std::string>& keys,
                             const std::string& tenant = "") {
    return testing::RawCall(channel, method, GoodRequest(), [&](grpc::ClientContext* context) {
      for (const std::string& key : keys) context->AddMetadata("authorization", Bearer(key));
      if (!tenant.empty()) context->AddMetadata("x-vernier-tenant", tenant);
    });
  }
};

TEST_F(KeysTest, F62EveryMethodOfTheProtoAsksForAKey) {
  const auto admin = testing::Connect(server_->admin_address());
  // Touching one message of each file links its descriptors in.
  const google::protobuf::Descriptor* const files[] = {
      v1::GenerateRequest::descriptor(), v1::CompareRequest::descriptor(), v1::Model::descriptor(),
      v1::DrainRequest::descriptor(), v1::LoadVariantRequest::descriptor()};
  int methods = 0;
  for (const auto* message : files) {
    const google::protobuf::FileDescriptor& file = *message->file();
    for (int s = 0; s < file.service_count(); ++s) {
      const auto& service = *file.service(s);
      for (int m = 0; m < service.method_count(); ++m, ++methods) {
        const std::string path =
            absl::StrCat("/", service.full_name(), "/", service.method(m)->name());
        const bool of_admin = absl::EndsWith(service.name(), "Control");
        const auto& channel = of_admin ? admin : channel_;
        EXPECT_EQ(CallWith(channel, path, {}).code, 16) << path;
        EXPECT_EQ(CallWith(channel, path, {"wrong"}).code, 16) << path;
        EXPECT_EQ(CallWith(channel, path, {kAll, kAll}).code, 16) << path;
        EXPECT_EQ(CallWith(channel, path, {kLow}).code, 7) << path;
        const int code = CallWith(channel, path, {kAll}).code;
        EXPECT_TRUE(code != 16 && code != 7 && code != 12) << path << ": " << code;
      }
    }
  }
  EXPECT_GE(methods, 12);
  EXPECT_EQ(CallWith(channel_, "/grpc.health.v1.Health/Check", {}).code, 5);  // answered: no name
}

TEST_F(KeysTest, AKeyIsNeverAnothersTenant) {
  EXPECT_EQ(CallWith(channel_, kGenerate, {kAll}, "acme").code, 0);
  EXPECT_EQ(CallWith(channel_, kGenerate, {kAll}, "globex").code, 7);
}

TEST_F(KeysTest, F60RefusalsSayNothingOfKeys) {
  const RawOutcome outcome = CallWith(channel_, kGenerate, {kLow});
  EXPECT_THAT(outcome.text, ::testing::Not(::testing::HasSubstr("low")));
  EXPECT_EQ(outcome.pushback, "");
}

class PeerTest : public GrpcTest {
 protected:
  static constexpr int kLimit = 3;
  static ServerLimits Limits() {
    ServerLimits limits;
    limits.max_peer_calls = kLimit;
    return limits;
  }
  PeerTest() : GrpcTest({}, AccessPolicy({}), Limits()) {}
};

TEST_F(PeerTest, F31CallsOfOneAddressAreLimitedOverItsConnections) {
  engine_.holds = true;
  std::vector<std::thread> clients;
  for (int i = 0; i < kLimit; ++i) {
    clients.emplace_back([this] {
      EXPECT_EQ(testing::RawCall(testing::Connect(server_->address()), kStream, GoodRequest()).code,
                0);
    });
    engine_.Await(i);
  }
  const RawOutcome refused = Call(kGenerate, GoodRequest());
  EXPECT_EQ(refused.code, 8);
  EXPECT_GE(std::stoi(refused.pushback), 50);
  EXPECT_EQ(Call("/vernier.v1.Models/ListModels", "").code, 8);
  EXPECT_EQ(Call("/grpc.health.v1.Health/Check", "").code, 5);  // health is not held up
  for (int i = 0; i < kLimit; ++i) engine_.Finish(i, FinishReason::kLength, 0);
  for (std::thread& client : clients) client.join();
  ASSERT_TRUE(state_.calls()->WaitForNone(absl::Seconds(30)));
  engine_.holds = false;
  ExpectServes();
  engine_.Forget();
}

}  // namespace
}  // namespace vernier
