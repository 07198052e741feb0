// Asks the kernel to run a thread soon after it wakes, beside threads that compute without a pause.
#pragma once

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace vernier {

// Of the calling thread: a slice of 0.1 ms, the least that the fair scheduler grants (sched(7),
// sched_setattr(2); Linux 6.12). It gets no larger share of the processors and needs no privilege.
// Changes nothing on an older kernel, or where it is forbidden.
inline void AskForShortSlice() {
  struct {
    uint32_t size = 48;
    uint32_t policy = 0;  // SCHED_OTHER
    uint64_t flags = 0;
    int32_t nice = 0;
    uint32_t priority = 0;
    uint64_t runtime_ns = 100000;  // of SCHED_OTHER: the slice
    uint64_t deadline_ns = 0;
    uint64_t period_ns = 0;
  } attributes;
  attributes.nice = getpriority(PRIO_PROCESS, 0);
  (void)syscall(SYS_sched_setattr, 0, &attributes, 0);
}

}  // namespace vernier
