#include "kernels/cpu/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <cstddef>

#include "kernels/base/check.h"
#include "kernels/base/thread_role.h"
#include "kernels/cpu/cpu_features.h"

namespace vernier {
namespace {

// About 50 us of pauses at 3 GHz: longer than the gaps between the loops of a step, shorter than a
// step.
constexpr int kSpins = 2000;

inline void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

// Worker i goes to processor i + 1 of those that the process may use.
void Pin(std::vector<std::thread>* workers) {
  const std::vector<int> processors = AllowedProcessors();
  if (processors.size() <= workers->size()) return;
  for (size_t i = 0; i < workers->size(); ++i) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(processors[i + 1], &one);
    // Refused where the process lost the processor meanwhile: then it stays free.
    pthread_setaffinity_np((*workers)[i].native_handle(), sizeof(one), &one);
  }
}

}  // namespace

ThreadPool::ThreadPool(int threads, Place place) {
  VERNIER_CHECK(threads >= 1);
  workers_.reserve(threads - 1);
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { Work(i); });
  if (place == Place::kPinned) Pin(&workers_);
}

ThreadPool::~ThreadPool() {
  {
    MutexLock lock(&mutex_);
    loop_.store(nullptr, std::memory_order_relaxed);
    epoch_.fetch_add(1, std::memory_order_release);
  }
  begun_.NotifyAll();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::RunRange(const Loop& loop, int thread) const {
  // count * thread fits: counts are rows or panels of a matrix that is in memory.
  const int64_t parts = threads();
  const int64_t begin = loop.count * thread / parts;
  const int64_t end = loop.count * (thread + 1) / parts;
  if (begin < end) loop.body(thread, begin, end);
}

void ThreadPool::ParallelFor(int64_t count, Body body) {
  if (count <= 0) return;
  if (workers_.empty() || count == 1) {
    body(0, 0, count);
    return;
  }
  const Loop loop{count, body};
  {
    MutexLock lock(&mutex_);
    loop_.store(&loop, std::memory_order_relaxed);
    pending_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
    epoch_.fetch_add(1, std::memory_order_release);
  }
  begun_.NotifyAll();
  RunRange(loop, 0);
  for (int spin = 0; spin < kSpins; ++spin) {
    if (pending_.load(std::memory_order_acquire) == 0) return;
    Pause();
  }
  MutexLock lock(&mutex_);
  while (pending_.load(std::memory_order_acquire) != 0) finished_.Wait(&mutex_);
}

void ThreadPool::AwaitLoop(uint64_t seen) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (epoch_.load(std::memory_order_acquire) != seen) return;
    Pause();
  }
  MutexLock lock(&mutex_);
  while (epoch_.load(std::memory_order_acquire) == seen) begun_.Wait(&mutex_);
}

void ThreadPool::Work(int thread) {
  SetThreadRole(ThreadRole::kComputes, "vernier-cpu");
  uint64_t seen = 0;
  while (true) {
    AwaitLoop(seen);
    ++seen;
    const Loop* loop = loop_.load(std::memory_order_relaxed);
    if (loop == nullptr) return;
    RunRange(*loop, thread);
    if (pending_.fetch_sub(1, std::memory_order_acq_rel) != 1) continue;
    // The caller may have returned already: it saw 0 while spinning. The pool outlives this, since
    // its destructor joins.
    MutexLock lock(&mutex_);
    finished_.NotifyOne();
  }
}

}  // namespace vernier
