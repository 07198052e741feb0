// The threads that turn engine events into replies: device threads append and go on, writers do the
// rest.
#pragma once

#include <deque>
#include <memory>
#include <thread>
#include <unordered_map>
#include <vector>

#include "absl/time/time.h"
#include "kernels/base/mutex.h"

namespace vernier {

// Work that writers run: one thread at a time, again after each Post that came while it ran.
class Writable {
 public:
  virtual ~Writable() = default;
  virtual void Drain() = 0;
  // Asks for a Drain; any thread, never blocks.
  virtual void Wake() = 0;
};

// Thread-safe. The destructor drains what was posted.
class WriterPool {
 public:
  // Every `tick` the watched writables are woken, so that one whose client does not read notices.
  WriterPool(int threads, absl::Duration tick);
  ~WriterPool();

  void Post(std::shared_ptr<Writable> writable);
  void Watch(std::weak_ptr<Writable> writable, const void* key);
  void Unwatch(const void* key);
  // Wakes the watched ones now; tests call it instead of waiting.
  void Tick();

 private:
  void Run(bool ticks);

  const absl::Duration tick_;
  Mutex mutex_;
  CondVar wake_;
  std::deque<std::shared_ptr<Writable>> queue_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<const void*, std::weak_ptr<Writable>> watched_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace vernier
