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

}  // namespace
}  // namespace vernier
