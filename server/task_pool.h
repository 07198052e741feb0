// A few threads for work that takes long and must not hold up gRPC's threads: tokenizing, scoring
// sums.
#pragma once

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "kernels/base/mutex.h"

namespace vernier {

// Thread-safe. Tasks run in the order posted; what may wait here is bounded by admission. The
// destructor runs what was posted.
class TaskPool {
 public:
  explicit TaskPool(int threads);
  ~TaskPool();
  void Post(std::function<void()> task);
  // For work that admission does not bound: false when `limit` tasks wait already.
  bool TryPost(std::function<void()> task, size_t limit);

 private:
  void Run();

  Mutex mutex_;
  CondVar wake_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace vernier
