#include "kernels/cpu/thread_pool.h"

#include <atomic>
#include <cstdint>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_features.h"

namespace vernier {
namespace {

TEST(ThreadPoolTest, EveryIndexRunsExactlyOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const int64_t count : {0, 1, 2, 3, 7, 8, 9, 1000}) {
      std::vector<int> runs(count, 0);  // ranges are disjoint, so plain integers do
      pool.ParallelFor(count, [&](int thread, int64_t begin, int64_t end) {
        EXPECT_GE(thread, 0);
        EXPECT_LT(thread, threads);
        for (int64_t i = begin; i < end; ++i) ++runs[i];
      });
      EXPECT_EQ(runs, std::vector<int>(count, 1)) << threads << " threads, " << count;
    }
  }
}

TEST(ThreadPoolTest, PinnedWorkersHaveAProcessorEachAndTheCallerKeepsItsOwn) {
  const std::vector<int> allowed = AllowedProcessors();
  const int threads = static_cast<int>(allowed.size());
  if (threads < 2) GTEST_SKIP() << "one processor";
  ThreadPool pool(threads, ThreadPool::Place::kPinned);
  std::vector<std::vector<int>> places(threads);
  pool.ParallelFor(threads,
                   [&](int thread, int64_t, int64_t) { places[thread] = AllowedProcessors(); });
  EXPECT_EQ(places[0], allowed);
  for (int i = 1; i < threads; ++i) EXPECT_EQ(places[i], std::vector<int>{allowed[i]});
}

TEST(ThreadPoolTest, MoreThreadsThanProcessorsStayFree) {
  const std::vector<int> allowed = AllowedProcessors();
  const int threads = static_cast<int>(allowed.size()) + 1;
  ThreadPool pool(threads, ThreadPool::Place::kPinned);
  pool.ParallelFor(threads,
                   [&](int, int64_t, int64_t) { EXPECT_EQ(AllowedProcessors(), allowed); });
}

TEST(ThreadPoolTest, RangesAreTheSameEachTime) {
  ThreadPool pool(3);
  const auto ranges = [&] {
    std::vector<int64_t> begins(3, -1);
    pool.ParallelFor(11, [&](int thread, int64_t begin, int64_t) { begins[thread] = begin; });
    return begins;
  };
  const std::vector<int64_t> first = ranges();
  EXPECT_EQ(first, (std::vector<int64_t>{0, 3, 7}));
  for (int i = 0; i < 100; ++i) EXPECT_EQ(ranges(), first);
}

TEST(ThreadPoolTest, ThreadZeroIsTheCaller) {
  ThreadPool pool(2);
  const std::thread::id caller = std::this_thread::get_id();
  std::vector<std::thread::id> ids(2);
  pool.ParallelFor(2,
                   [&](int thread, int64_t, int64_t) { ids[thread] = std::this_thread::get_id(); });
  EXPECT_EQ(ids[0], caller);
  EXPECT_NE(ids[1], caller);
}

TEST(ThreadPoolTest, ALoopSeesWhatTheLastOneWrote) {
  ThreadPool pool(4);
  std::vector<int64_t> values(64, 1);
  for (int round = 0; round < 2000; ++round) {
    std::vector<int64_t> next(64);
    pool.ParallelFor(64, [&](int, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) next[i] = values[63 - i] + 1;
    });
    values = next;
  }
  EXPECT_EQ(values, std::vector<int64_t>(64, 2001));
}

TEST(ThreadPoolTest, SleepingWorkersAreWoken) {
  ThreadPool pool(4);
  std::atomic<int64_t> sum{0};
  for (int round = 0; round < 20; ++round) {
    // Far longer than the workers spin, so that they sleep; the volatile keeps the work.
    volatile uint64_t work = 0;
    for (int i = 0; i < 2'000'000; ++i) work = work + 1;
    pool.ParallelFor(100, [&](int, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) sum.fetch_add(i, std::memory_order_relaxed);
    });
  }
  EXPECT_EQ(sum.load(), 20 * 4950);
}

TEST(ThreadPoolTest, PoolsComeAndGoWithoutWork) {
  for (int i = 0; i < 50; ++i) ThreadPool pool(3);
}

}  // namespace
}  // namespace vernier
