#include "server/writer_pool.h"

#include <algorithm>
#include <utility>

namespace vernier {

WriterPool::WriterPool(int threads, absl::Duration tick) : tick_(tick) {
  for (int i = 0; i < std::max(threads, 1); ++i) {
    threads_.emplace_back([this, i] { Run(/*ticks=*/i == 0); });
  }
}

WriterPool::~WriterPool() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  wake_.NotifyAll();
  for (std::thread& thread : threads_) thread.join();
}

void WriterPool::Post(std::shared_ptr<Writable> writable) {
  {
    MutexLock lock(&mutex_);
    queue_.push_back(std::move(writable));
  }
  wake_.NotifyOne();
}

void WriterPool::Watch(std::weak_ptr<Writable> writable, const void* key) {
  MutexLock lock(&mutex_);
  watched_.insert_or_assign(key, std::move(writable));
}

void WriterPool::Unwatch(const void* key) {
  MutexLock lock(&mutex_);
  watched_.erase(key);
}

void WriterPool::Tick() {
  std::vector<std::shared_ptr<Writable>> alive;
  {
    MutexLock lock(&mutex_);
    for (const auto& [key, watched] : watched_) {
      if (auto writable = watched.lock()) alive.push_back(std::move(writable));
    }
  }
  for (const auto& writable : alive) writable->Wake();
}

void WriterPool::Run(bool ticks) {
  while (true) {
    std::shared_ptr<Writable> next;
    bool tick = false;
    {
      MutexLock lock(&mutex_);
      while (queue_.empty() && !stopping_ && !tick) {
        if (ticks && !watched_.empty()) {
          tick = !wake_.WaitFor(&mutex_, absl::ToChronoNanoseconds(tick_));
        } else if (ticks) {
          // Watch() does not notify: look again after a tick.
          wake_.WaitFor(&mutex_, absl::ToChronoNanoseconds(tick_));
        } else {
          wake_.Wait(&mutex_);
        }
      }
      if (!queue_.empty()) {
        next = std::move(queue_.front());
        queue_.pop_front();
      } else if (stopping_) {
        return;
      }
    }
    if (next != nullptr) {
      next->Drain();
    } else if (tick) {
      Tick();
    }
  }
}

}  // namespace vernier
