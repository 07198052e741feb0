#include "server/reset_guard.h"

namespace vernier {

void ResetGuard::Begin(const std::string& peer) {
  if (limit_ == 0) return;
  {
    MutexLock lock(&mutex_);
    if (alive_.Add(peer) != limit_ + 1) return;  // once, and again when it got below
  }
  if (cut_) cut_(peer);
}

void ResetGuard::End(const std::string& peer, bool cancelled, absl::Duration now) {
  if (limit_ == 0) return;
  {
    MutexLock lock(&mutex_);
    alive_.Remove(peer);
    if (now - second_ >= absl::Seconds(1)) {
      second_ = now;
      cancelled_ = CountsByKey();
    }
    if (!cancelled || cancelled_.Add(peer) != limit_ + 1) return;
  }
  if (cut_) cut_(peer);
}

}  // namespace vernier
