#include "server/gpu_events.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/base/mutex.h"

namespace vernier {
namespace {

using ::testing::HasSubstr;

class GpuEventsTest : public ::testing::Test {
 protected:
  ~GpuEventsTest() override {
    unsetenv("FAKE_NVML");
    unsetenv("FAKE_NVML_GPUS");
  }
  absl::StatusOr<std::unique_ptr<GpuEvents>> Start(const std::string& visible = "") {
    return GpuEvents::Start(FAKE_NVML_LIBRARY, visible, [this](const GpuEvent& event) {
      MutexLock lock(&mutex_);
      events_.push_back(event);
      came_.NotifyAll();
    });
  }
  std::vector<GpuEvent> WaitFor(size_t count) {
    MutexLock lock(&mutex_);
    while (events_.size() < count) came_.Wait(&mutex_);
    return events_;
  }

  Mutex mutex_;
  CondVar came_;
  std::vector<GpuEvent> events_;
};

TEST_F(GpuEventsTest, F44EccErrorsAndXidsAreTold) {
  setenv("FAKE_NVML", "ecc 13 94", 1);
  const auto watching = Start();
  ASSERT_TRUE(watching.ok()) << watching.status();
  const std::vector<GpuEvent> events = WaitFor(3);
  EXPECT_EQ(events[0].kind, GpuEvent::Kind::kEcc);
  EXPECT_EQ(events[1].xid, 13u);
  EXPECT_EQ(events[2].xid, 94u);
  EXPECT_FALSE(IsFatal(events[0]));
  EXPECT_FALSE(IsFatal(events[1]));
  EXPECT_TRUE(IsFatal(events[2]));
}

TEST_F(GpuEventsTest, F44AGpuThatIsGoneIsFatal) {
  setenv("FAKE_NVML", "lost", 1);
  const auto watching = Start();
  ASSERT_TRUE(watching.ok()) << watching.status();
  EXPECT_TRUE(IsFatal(WaitFor(1)[0]));
}

TEST_F(GpuEventsTest, F44FatalXids) {
  for (const uint64_t xid : {48, 79, 94, 95}) {
    EXPECT_TRUE(IsFatal({GpuEvent::Kind::kXid, xid})) << xid;
  }
  for (const uint64_t xid : {13, 31, 43, 63}) {
    EXPECT_FALSE(IsFatal({GpuEvent::Kind::kXid, xid})) << xid;
  }
}

TEST_F(GpuEventsTest, OfSeveralGpusOnlyTheNamedOneIsOurs) {
  setenv("FAKE_NVML_GPUS", "8", 1);
  EXPECT_THAT(std::string(Start().status().message()), HasSubstr("8 GPUs"));
  EXPECT_FALSE(Start("3").ok());
  EXPECT_FALSE(Start("GPU-another").ok());
  EXPECT_TRUE(Start("GPU-ours,GPU-another").ok());
}

TEST_F(GpuEventsTest, WithoutTheLibraryOrAFunctionOfItThereIsNothing) {
  const auto start = [](const char* library) {
    return GpuEvents::Start(library, "", [](const GpuEvent&) {}).status();
  };
  EXPECT_TRUE(absl::IsNotFound(start("/nowhere/libnvidia-ml.so")));
  EXPECT_TRUE(absl::IsFailedPrecondition(start("libm.so.6")));
}

}  // namespace
}  // namespace vernier
