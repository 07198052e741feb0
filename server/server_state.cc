#include "server/server_state.h"

#include <algorithm>

namespace vernier {

bool PeerCalls::TryBegin(const std::string& address) {
  if (limit_ == 0) return true;
  MutexLock lock(&mutex_);
  int& alive = alive_[address];
  if (alive >= limit_) return false;
  ++alive;
  return true;
}

void PeerCalls::End(const std::string& address) {
  if (limit_ == 0) return;
  MutexLock lock(&mutex_);
  const auto entry = alive_.find(address);
  if (--entry->second == 0) alive_.erase(entry);
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
