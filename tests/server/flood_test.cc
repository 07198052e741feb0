// Clients that send what costs a server much and them little: resets, pings, settings, a closed
// window.
#include <gtest/gtest.h>

#include "tests/server/grpc_fixture.h"
#include "tests/server/raw_http2.h"

namespace vernier {
namespace {

using testing::Frame;
using testing::GrpcTest;
using testing::kGenerate;
using testing::kStream;
using testing::RawHttp2;

constexpr uint8_t kPing = 6;  // RFC 9113, 6.7

class FloodTest : public GrpcTest {
 protected:
  explicit FloodTest(const ServerLimits& limits = {}) : GrpcTest({}, AccessPolicy({}), limits) {}
  // Others, on connections of their own, are served.
  void ExpectServesOthers() {
    EXPECT_EQ(testing::RawCall(testing::Connect(server_->address()), kGenerate, GoodRequest()).code,
              0);
  }
};

TEST_F(FloodTest, F22StreamsOpenedAndResetLeaveNothingBehind) {
  RawHttp2 raw(server_->address());
  const std::string cancel("\0\0\0\x08", 4);
  for (uint32_t i = 0; i < 1000; ++i) {
    const uint32_t stream = 2 * i + 1;
    raw.SendHeaders(stream, kStream, {});
    raw.SendMessage(stream, GoodRequest());
    raw.SendFrame({Frame::kReset, 0, stream, cancel});
  }
  ExpectServesOthers();
  EXPECT_TRUE(state_.calls()->WaitForNone(absl::Seconds(30)));
}

class ResetsTest : public FloodTest {
 protected:
  static constexpr int kLimit = 8;
  ResetsTest() : FloodTest(Limits()) {}
  static ServerLimits Limits() {
    ServerLimits limits;
    limits.max_unended = kLimit;
    return limits;
  }
};

TEST_F(ResetsTest, F22AConnectionWithMoreCallsThanItsStreamsAllowIsEnded) {
  engine_.holds = true;
  RawHttp2 raw(server_->address());
  const auto open = [&](uint32_t i) {
    raw.SendHeaders(2 * i + 1, kStream, {});
    raw.SendMessage(2 * i + 1, GoodRequest());
  };
  for (uint32_t i = 0; i < kLimit; ++i) {
    open(i);
    engine_.Await(i);
  }
  EXPECT_EQ(server_->Connections().cut, 0);
  engine_.holds = false;
  open(kLimit);
  while (raw.Read().has_value()) {
  }
  while (server_->Connections().cut == 0) {  // counted after it was ended
  }
  EXPECT_EQ(server_->Connections().cut, 1);
  ExpectServesOthers();
  for (int i = 0; i < kLimit; ++i) engine_.Finish(i, FinishReason::kCancelled, 0);
  EXPECT_TRUE(state_.calls()->WaitForNone(absl::Seconds(30)));
  engine_.Forget();
}

TEST_F(ResetsTest, F22AConnectionThatResetsAsFastAsItOpensIsEnded) {
  RawHttp2 raw(server_->address());
  const std::string cancel("\0\0\0\x08", 4);
  for (uint32_t i = 0; server_->Connections().cut == 0; ++i) {  // the last ones may find it closed
    raw.SendHeaders(2 * i + 1, kStream, {});
    raw.SendMessage(2 * i + 1, GoodRequest());
    raw.SendFrame({Frame::kReset, 0, 2 * i + 1, cancel});
  }
  while (raw.Read().has_value()) {
  }
  ExpectServesOthers();
  EXPECT_TRUE(state_.calls()->WaitForNone(absl::Seconds(30)));
}

TEST_F(FloodTest, F26PingFloodEndsWithGoAway) {
  RawHttp2 raw(server_->address());
  for (int i = 0; i < 64; ++i) raw.SendFrame({kPing, 0, 0, std::string(8, '\0')});
  bool told = false;
  while (auto frame = raw.Read()) told = told || frame->type == Frame::kGoAway;
  EXPECT_TRUE(told);
  ExpectServesOthers();
}

TEST_F(FloodTest, F26SettingsFloodDoesNoHarm) {
  RawHttp2 raw(server_->address());
  const std::string window("\0\x04\0\0\xff\xff", 6);  // SETTINGS_INITIAL_WINDOW_SIZE
  for (int i = 0; i < 2000; ++i) raw.SendFrame({Frame::kSettings, 0, 0, window});
  ExpectServesOthers();
}

TEST_F(FloodTest, F26AClientWithAClosedWindowIsParkedAndOthersAreServed) {
  RawHttp2 raw(server_->address());
  raw.SendFrame({Frame::kSettings, 0, 0, std::string("\0\x04\0\0\0\0", 6)});
  raw.SendHeaders(1, kGenerate, {});
  raw.SendMessage(1, GoodRequest());
  ExpectServesOthers();
  raw.SendFrame({Frame::kReset, 0, 1, std::string("\0\0\0\x08", 4)});
  EXPECT_TRUE(state_.calls()->WaitForNone(absl::Seconds(30)));
}

class ConnectionsTest : public GrpcTest {
 protected:
  static constexpr int kLimit = 4;
  static GrpcOptions Options() {
    GrpcOptions options;
    options.connections = {.total = kLimit};
    options.side_connections = {.total = kLimit, .per_peer = 1};
    return options;
  }
  ConnectionsTest() : GrpcTest(Options(), AccessPolicy({}), {}) { health_.Set("liveness", true); }

  int CodeOfANewConnection() {
    return testing::RawCall(testing::Connect(server_->address()), kGenerate, GoodRequest()).code;
  }
};

TEST_F(ConnectionsTest, F25SilentConnectionsCostNobodyHisOwnNorTheDaemonItsHealth) {
  ExpectServes();  // over the first connection
  {
    boost::asio::io_context loop;
    std::vector<boost::asio::ip::tcp::socket> silent;
    while (server_->Connections().open < kLimit) {
      silent.push_back(testing::ConnectSocket(&loop, server_->address()));
    }
    boost::asio::write(silent.back(), boost::asio::buffer(std::string("PRI * HT")));  // slowly
    EXPECT_EQ(CodeOfANewConnection(), 14);
    EXPECT_GE(server_->Connections().refused_total, 1);
    ExpectServes();
    const absl::Status own = server_->Dial(absl::Seconds(30));
    EXPECT_TRUE(own.ok()) << own;
    EXPECT_TRUE(DialHealth(server_->health_address(), absl::Seconds(30)).ok());
  }
  while (CodeOfANewConnection() != 0) {
  }
}

TEST_F(ConnectionsTest, TheOtherListenersHaveLimitsOfTheirOwn) {
  boost::asio::io_context loop;
  for (const std::string& address : {server_->health_address(), server_->admin_address()}) {
    const auto silent = testing::ConnectSocket(&loop, address);
    EXPECT_EQ(testing::RawCall(testing::Connect(address), kGenerate, "").code, 14);
  }
  ExpectServes();
  EXPECT_EQ(server_->Connections().refused_total, 0);
}

}  // namespace
}  // namespace vernier
