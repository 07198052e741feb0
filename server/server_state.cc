#include "server/server_state.h"

#include <algorithm>

namespace vernier {

bool PeerCalls::TryBegin(const std::string& address) {
  if (limit_ == 0) return true;
  MutexLock lock(&mutex_);
  if (alive_.Of(address) >= limit_) return false;
  alive_.Add(address);
  return true;
}

void PeerCalls::End(const std::string& address) {
  if (limit_ == 0) return;
  MutexLock lock(&mutex_);
  alive_.Remove(address);
}

void LiveCalls::Begin() {
  MutexLock lock(&mutex_);
  ++alive_;
}

void LiveCalls::End() {
  {
    MutexLock lock(&mutex_);
    if (--alive_ > 0) return;
  }
  none_.NotifyAll();
}

bool LiveCalls::WaitForNone(absl::Duration timeout) {
  const absl::Duration until = clock_->Now() + timeout;
  MutexLock lock(&mutex_);
  while (alive_ > 0) {
    const absl::Duration left = until - clock_->Now();
    if (left <= absl::ZeroDuration()) return false;
    none_.WaitFor(&mutex_, absl::ToChronoNanoseconds(std::min(left, absl::Seconds(1))));
  }
  return true;
}

}  // namespace vernier
