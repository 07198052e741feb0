#include "server/server_state.h"

namespace vernier {

void ServerState::CallBegins() {
  MutexLock lock(&mutex_);
  ++calls_alive_;
}

void ServerState::CallEnds() {
  {
    MutexLock lock(&mutex_);
    if (--calls_alive_ > 0) return;
  }
  none_alive_.NotifyAll();
}

bool ServerState::WaitForCalls(absl::Duration timeout) {
  const absl::Duration until = clock_->Now() + timeout;
  MutexLock lock(&mutex_);
  while (calls_alive_ > 0) {
    const absl::Duration left = until - clock_->Now();
    if (left <= absl::ZeroDuration()) return false;
    none_alive_.WaitFor(&mutex_, absl::ToChronoNanoseconds(std::min(left, absl::Seconds(1))));
  }
  return true;
}

}  // namespace vernier
