// Monotonic time as the engine sees it; the simulation and tests bring their own.
#pragma once

#include "absl/time/time.h"

namespace vernier {

// Thread-safe. Now() is the time since an arbitrary origin and never goes back.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Duration Now() const = 0;
};

// std::chrono::steady_clock. Lives as long as the process.
const Clock& SteadyClock();

}  // namespace vernier
