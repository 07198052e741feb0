// How a thread is scheduled, and its name in `top -H`.
//
// Each step of the engine wakes threads that write to streams, and each call one that answers it.
// Woken, a thread may interrupt whoever computes, some 3,000 times a second under load. Those that
// serve are therefore SCHED_BATCH (sched(7)): they take a free processor, or wait for the end of a
// slice; but those of the metrics port (server/short_slice.h), which ask for little. What it is
// worth: loadtest/README.md.
#pragma once

#include <pthread.h>
#include <sched.h>

namespace vernier {

enum class ThreadRole { kComputes, kServes };

// Of the calling thread, and of those that it starts afterwards. What a thread has been given from
// outside, such as SCHED_FIFO, stays; where the system refuses, nothing happens. `name`: at most 15
// bytes; null leaves it.
inline void SetThreadRole(ThreadRole role, const char* name) {
  const int from = role == ThreadRole::kServes ? SCHED_OTHER : SCHED_BATCH;
  const int to = role == ThreadRole::kServes ? SCHED_BATCH : SCHED_OTHER;
  const sched_param priority = {};
  if (sched_getscheduler(0) == from) sched_setscheduler(0, to, &priority);
  if (name != nullptr) pthread_setname_np(pthread_self(), name);
}

}  // namespace vernier
