// Which threads of vernierd may interrupt which (kernels/base/thread_role.h).
#include <gmock/gmock.h>
#include <sched.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/server/daemon_process.h"
#include "tests/server/end_to_end.h"
#include "tests/testing/thread_policies.h"

namespace vernier {
namespace {

using testing::ChildProcess;
using testing::Command;
using ::testing::HasSubstr;

TEST(DaemonThreadsTest, ThreadsThatServeDoNotInterruptThoseThatCompute) {
  if (!testing::ThreadsMayChoosePolicies()) GTEST_SKIP() << "threads cannot choose policies here";
  ChildProcess daemon(
      Command({"--model", testing::TestDataPath("stories260K/hf"), "--variants", "fp16", "--listen",
               "127.0.0.1:0", "--http", "127.0.0.1:0", "--threads", "2", "--kv-bytes", "4000000"}));
  const std::string ready = daemon.ReadLine();
  ASSERT_THAT(ready, HasSubstr("ready"));
  // A thread says itself what it is, once it runs: after an answer, all have run.
  EXPECT_EQ(testing::RawCall(testing::Connect(testing::GrpcAddress(ready)),
                             "/vernier.v1.Inference/Generate",
                             testing::IdsRequest({1}, 2).SerializeAsString())
                .code,
            0);
  std::multiset<std::string> compute;
  int serve = 0;
  const std::string tasks = absl::StrCat("/proc/", daemon.pid(), "/task");
  for (const auto& entry : std::filesystem::directory_iterator(tasks)) {
    std::string name;
    std::getline(std::ifstream(entry.path() / "comm"), name);
    const int policy = sched_getscheduler(std::stoi(entry.path().filename().string()));
    if (policy == SCHED_OTHER) compute.insert(name);
    if (policy == SCHED_BATCH) ++serve;
  }
  compute.erase("vernierd");  // those of the metrics port, whose slices are short (short_slice.h)
  EXPECT_THAT(compute, ::testing::ElementsAre("vernier-cpu", "vernier-engine"));
  EXPECT_GT(serve, 2);
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.Wait(), 0);
}

}  // namespace
}  // namespace vernier
