// A fixed set of threads that run one loop at a time, in contiguous ranges.
//
// Made for steps of hundreds of short loops: between loops the workers spin for a bounded time,
// then sleep on a condition variable, so that an idle daemon costs nothing.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "kernels/base/mutex.h"

namespace vernier {

// ParallelFor may be called by one thread at a time, and not from inside a loop's body.
class ThreadPool {
 public:
  // `thread` in [0, threads()); 0 is the calling thread.
  using Body = absl::FunctionRef<void(int thread, int64_t begin, int64_t end)>;

  // Where the workers run: on any processor that the process may use, or each on its own of those,
  // the first being left to the caller. Where there are fewer processors than threads, or the
  // system refuses, on any.
  enum class Place : uint8_t { kAny, kPinned };

  // REQUIRES: threads >= 1. Starts threads - 1 workers.
  explicit ThreadPool(int threads, Place place = Place::kAny);
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool();

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Runs `body` over [0, count) in one contiguous range a thread, the same ranges each time, and
  // returns when all of it is done. Threads whose range is empty are not called.
  void ParallelFor(int64_t count, Body body);

 private:
  // One loop; lives on the caller's stack until pending_ is 0.
  struct Loop {
    int64_t count;
    Body body;
  };

  void Work(int thread);
  void RunRange(const Loop& loop, int thread) const;
  // Waits until epoch_ is no longer `seen`.
  void AwaitLoop(uint64_t seen);

  std::atomic<uint64_t> epoch_{0};          // loops begun; a release of loop_ and stop_
  std::atomic<int> pending_{0};             // workers that have not finished the current loop
  std::atomic<const Loop*> loop_{nullptr};  // null once the pool stops
  Mutex mutex_;                             // guards no field: orders sleepers with their wake-ups
  CondVar begun_;                           // epoch_ changed
  CondVar finished_;                        // pending_ became 0
  std::vector<std::thread> workers_;
};

}  // namespace vernier
