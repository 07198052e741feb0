// Whether threads may be scheduled as thread_role.h wants: not in every sandbox, nor where the
// tests themselves were started with another policy.
#pragma once

#include <sched.h>

#include <thread>

namespace vernier::testing {

inline bool ThreadsMayChoosePolicies() {
  if (sched_getscheduler(0) != SCHED_OTHER) return false;
  bool may = false;
  std::thread([&may] {
    const sched_param priority = {};
    may =
        sched_setscheduler(0, SCHED_BATCH, &priority) == 0 && sched_getscheduler(0) == SCHED_BATCH;
  }).join();
  return may;
}

}  // namespace vernier::testing
