#include <gtest/gtest.h>

#include <memory>

#include "engine/status_payload.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/health_board.h"
#include "server/instruments.h"
#include "server/liveness.h"
#include "server/wire_status.h"
#include "tests/server/metrics_page.h"
#include "tests/testing/fake_engine.h"

namespace vernier {
namespace {

class CountingWatcher : public HealthWatcher {
 public:
  void OnHealthChanged() override { ++changes; }
  int changes = 0;
};

TEST(HealthBoardTest, UnknownNamesHaveNoStateAndWatchersHearChangesOnly) {
  HealthBoard board;
  EXPECT_FALSE(board.Serving("readiness"));
  board.Set("readiness", false);
  auto watcher = std::make_shared<CountingWatcher>();
  board.Watch(watcher);
  board.Set("readiness", false);
  EXPECT_EQ(watcher->changes, 0);
  board.Set("readiness", true);
  EXPECT_EQ(watcher->changes, 1);
  EXPECT_TRUE(*board.Serving("readiness"));
  EXPECT_FALSE(board.closed());
  board.Close();
  EXPECT_TRUE(board.closed());
  EXPECT_EQ(watcher->changes, 2);
  board.Unwatch(watcher.get());
  board.Set("readiness", false);
  EXPECT_EQ(watcher->changes, 2);
}

// An engine whose snapshot the test sets.
class StillEngine : public testing::FakeEngine {
 public:
  explicit StillEngine(const Clock* clock) : FakeEngine({}, 64, 1, clock) {}
  EngineSnapshot Snapshot() const override { return snapshot; }
  EngineSnapshot snapshot;
};

// What the test looks at itself, whenever it wants.
class LivenessTest : public ::testing::Test {
 protected:
  LivenessTest() { engine_.snapshot.heartbeat = clock_.Now(); }
  std::unique_ptr<Liveness> Watching() {
    LivenessOptions options;
    options.period = absl::Hours(1);
    return std::make_unique<Liveness>(
        options, &engine_, &clock_, &board_, &metrics_, [this] { return dialed_; },
        [this](const absl::Status&) { ++lost_; });
  }

  testing::FakeClock clock_;
  StillEngine engine_{&clock_};
  HealthBoard board_;
  Metrics metrics_{"m", {{"fp16", "fp16"}}, 64};
  absl::Status dialed_;
  int lost_ = 0;
};

TEST_F(LivenessTest, StaleHeartbeatTwiceMeansTheEngineIsLost) {
  const auto liveness = Watching();
  liveness->Check();
  EXPECT_TRUE(*board_.Serving("liveness"));
  clock_.Advance(absl::Seconds(11));
  liveness->Check();
  EXPECT_FALSE(*board_.Serving("liveness"));
  EXPECT_EQ(lost_, 0);
  liveness->Check();
  liveness->Check();
  EXPECT_EQ(lost_, 1);
}

TEST_F(LivenessTest, F43AProcessThatWasStoppedIsNotTakenForAHungOne) {
  const auto liveness = Watching();
  clock_.Advance(absl::Hours(3));
  liveness->Check();
  EXPECT_TRUE(*board_.Serving("liveness"));
  clock_.Advance(absl::Hours(1));
  liveness->Check();
  EXPECT_FALSE(*board_.Serving("liveness")) << "the engine does not go on";
  EXPECT_EQ(lost_, 0);
}

TEST_F(LivenessTest, F23PortThatDoesNotAnswerIsNotAlive) {
  dialed_ = absl::UnavailableError("refused");
  const auto liveness = Watching();
  liveness->Check();
  EXPECT_FALSE(*board_.Serving("liveness"));
  dialed_ = absl::OkStatus();
  liveness->Check();
  EXPECT_TRUE(*board_.Serving("liveness"));
  EXPECT_EQ(lost_, 0) << "the engine is well";
}

TEST_F(LivenessTest, LostDeviceIsToldAtOnce) {
  engine_.snapshot.device = absl::InternalError("sticky");
  const auto liveness = Watching();
  liveness->Check();
  liveness->Check();
  EXPECT_EQ(lost_, 1);
  const testing::MetricsPage page(RenderPrometheus(metrics_.Collect()));
  EXPECT_EQ(page.Sum("vernier_gpu_errors_total", {"kind=\"sticky\""}), 1);
  EXPECT_EQ(page.Sum("vernier_gpu_errors_total"), 1);
  EXPECT_FALSE(*board_.Serving("liveness"));
}

TEST(WireStatusTest, FieldsAtFaultAreDetails) {
  const WireStatus wire = ToWire(InvalidField({"sampling.top_p", "1.5", "in (0, 1]"}));
  EXPECT_EQ(wire.code, 3);
  EXPECT_FALSE(wire.pushback_ms);
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(wire.details));
  google::rpc::BadRequest bad;
  ASSERT_TRUE(details.details(0).UnpackTo(&bad));
  EXPECT_EQ(bad.field_violations(0).field(), "sampling.top_p");
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(details.details(1).UnpackTo(&info));
  EXPECT_EQ(info.metadata().at("value"), "1.5");
}

TEST(WireStatusTest, PushbackIsTheHintWithJitterWithinBounds) {
  for (int i = 0; i < 100; ++i) {
    const auto hint = [](absl::Duration retry) {
      return *ToWire(Rejected(RejectReason::kQueueTokens, "full", retry)).pushback_ms;
    };
    EXPECT_GE(hint(absl::Seconds(1)), 800);
    EXPECT_LE(hint(absl::Seconds(1)), 1200);
    EXPECT_EQ(hint(absl::ZeroDuration()), 50);
    EXPECT_EQ(hint(absl::Hours(1)), 10000);
    EXPECT_EQ(hint(-absl::Seconds(1)), -1);
  }
  EXPECT_TRUE(ToWire(absl::UnavailableError("loading")).pushback_ms);
}

TEST(WireStatusTest, F60InternalErrorsAreToldAsAnIncident) {
  const WireStatus wire = ToWire(absl::InternalError("/secret/path at 0x7fff1234"));
  EXPECT_EQ(wire.code, 13);
  EXPECT_EQ(wire.message.find("secret"), std::string::npos);
  EXPECT_NE(wire.message.find("incident "), std::string::npos);
}

}  // namespace
}  // namespace vernier
