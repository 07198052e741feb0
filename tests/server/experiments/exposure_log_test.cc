#include "server/experiments/exposure_log.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace vernier {
namespace {

class ExposureLogTest : public ::testing::Test {
 protected:
  ExposureLogTest() {
    folder_ = ::testing::TempDir() + "exposures." + std::to_string(getpid()) + "." +
              ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
  }
  ~ExposureLogTest() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<ExposureLog> Open(ExposureLogOptions options = {}) const {
    options.folder = folder_;
    auto log = ExposureLog::Open(options);
    EXPECT_TRUE(log.ok()) << log.status();
    return *std::move(log);
  }
  // prompt_tokens of every record, and what was skipped.
  std::vector<uint32_t> Read(int64_t* skipped) const {
    std::vector<uint32_t> found;
    const auto reading = ReadExposures(
        folder_, [&](const ExposureRecord& record) { found.push_back(record.prompt_tokens); });
    EXPECT_TRUE(reading.ok()) << reading.status();
    EXPECT_EQ(reading->records, static_cast<int64_t>(found.size()));
    *skipped = reading->skipped_bytes;
    return found;
  }
  std::string FirstSegment() const { return folder_ + "/exposures-00000000.log"; }

  std::string folder_;
};

ExposureRecord Numbered(uint32_t number) {
  ExposureRecord record;
  record.prompt_tokens = number;
  return record;
}

TEST_F(ExposureLogTest, ReadsBackWhatWasLoggedInOrder) {
  {
    const auto log = Open();
    for (uint32_t i = 0; i < 1000; ++i) log->Append(Numbered(i));
    ASSERT_TRUE(log->Flush().ok());
    EXPECT_EQ(log->Written(), 1000);
    EXPECT_EQ(log->Dropped(), 0);
  }
  int64_t skipped = -1;
  const std::vector<uint32_t> found = Read(&skipped);
  ASSERT_EQ(found.size(), 1000u);
  for (uint32_t i = 0; i < 1000; ++i) EXPECT_EQ(found[i], i);
  EXPECT_EQ(skipped, 0);
}

TEST_F(ExposureLogTest, AStartGoesOnInANewSegment) {
  Open()->Append(Numbered(1));
  Open()->Append(Numbered(2));
  int64_t skipped = -1;
  EXPECT_EQ(Read(&skipped), (std::vector<uint32_t>{1, 2}));
}

TEST_F(ExposureLogTest, DividesIntoSegments) {
  {
    const auto log = Open({.segment_bytes = 16 + 10 * ExposureRecord::kBytes});
    for (uint32_t i = 0; i < 100; ++i) {
      log->Append(Numbered(i));
      ASSERT_TRUE(log->Flush().ok());
    }
  }
  int64_t skipped = -1;
  EXPECT_EQ(Read(&skipped).size(), 100u);
  EXPECT_EQ(std::filesystem::file_size(FirstSegment()), 16u + 10 * ExposureRecord::kBytes);
}

TEST_F(ExposureLogTest, SkipsWhatWasCutOrDamagedAndReadsTheRest) {
  {
    const auto log = Open();
    for (uint32_t i = 0; i < 10; ++i) log->Append(Numbered(i));
  }
  std::fstream file(FirstSegment(), std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(16 + 3 * ExposureRecord::kBytes + 100);  // in record 3
  file.put('\x7f');
  file.close();
  std::filesystem::resize_file(FirstSegment(), 16 + 9 * ExposureRecord::kBytes + 50);
  Open()->Append(Numbered(10));
  int64_t skipped = -1;
  EXPECT_EQ(Read(&skipped), (std::vector<uint32_t>{0, 1, 2, 4, 5, 6, 7, 8, 10}));
  EXPECT_EQ(skipped, ExposureRecord::kBytes + 50);
}

TEST_F(ExposureLogTest, LeavesOutAFileThatIsNoSegment) {
  Open()->Append(Numbered(1));
  std::ofstream(folder_ + "/exposures-00000007.log") << "not ours at all";
  std::ofstream(folder_ + "/exposures-x.log") << "neither";
  int64_t skipped = -1;
  EXPECT_EQ(Read(&skipped), (std::vector<uint32_t>{1}));
  EXPECT_EQ(skipped, 15);
  Open()->Append(Numbered(2));  // behind it
  EXPECT_EQ(Read(&skipped), (std::vector<uint32_t>{1, 2}));
}

TEST_F(ExposureLogTest, CountsWhatFindsTheQueueFull) {
  const auto log = Open({.queue_records = 8, .write_period = absl::Hours(1)});
  // The writer sleeps, so at most what it took before and what the queue holds gets in.
  for (uint32_t i = 0; i < 1000; ++i) log->Append(Numbered(i));
  EXPECT_GT(log->Dropped(), 0);
  ASSERT_TRUE(log->Flush().ok());
  EXPECT_EQ(log->Written() + log->Dropped(), 1000);
}

TEST_F(ExposureLogTest, LosesNothingOfManyThreads) {
  constexpr int kThreads = 4, kEach = 5000;
  {
    const auto log = Open({.queue_records = 1 << 15});
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < kEach; ++i) log->Append(Numbered(static_cast<uint32_t>(t * kEach + i)));
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(log->Dropped(), 0);
  }
  int64_t skipped = -1;
  const std::vector<uint32_t> found = Read(&skipped);
  EXPECT_EQ(std::set<uint32_t>(found.begin(), found.end()).size(), size_t{kThreads * kEach});
  EXPECT_EQ(found.size(), size_t{kThreads * kEach});
}

TEST_F(ExposureLogTest, AKilledProcessLosesNothingThatWasFlushed) {
  const pid_t child = fork();
  if (child == 0) {
    const auto log = ExposureLog::Open({.folder = folder_});
    if (!log.ok()) _exit(2);
    for (uint32_t i = 0; i < 500; ++i) (*log)->Append(Numbered(i));
    if (!(*log)->Flush().ok()) _exit(3);
    for (uint32_t i = 500; i < 600; ++i) (*log)->Append(Numbered(i));
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  int64_t skipped = -1;
  const std::vector<uint32_t> found = Read(&skipped);
  ASSERT_GE(found.size(), 500u);
  for (uint32_t i = 0; i < found.size(); ++i) EXPECT_EQ(found[i], i);
}

TEST_F(ExposureLogTest, RefusesAFolderThatCannotBe) {
  std::ofstream(folder_) << "a file is here";
  const auto log = ExposureLog::Open({.folder = folder_});
  ASSERT_FALSE(log.ok());
  EXPECT_NE(std::string(log.status().message()).find(folder_), std::string::npos);
  EXPECT_TRUE(absl::IsNotFound(ReadExposures(folder_ + "/none", [](const auto&) {}).status()));
}

}  // namespace
}  // namespace vernier
