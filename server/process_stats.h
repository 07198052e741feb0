// What the kernel says of this process: memory, CPU time, descriptors, threads.
//
// Reads /proc/self; any thread. Zero for what cannot be read.
#pragma once

#include <cstdint>

namespace vernier {

struct ProcessStats {
  double cpu_seconds = 0;
  int64_t resident_bytes = 0;
  int64_t resident_anonymous_bytes = 0;  // RssAnon: what the process allocated
  int64_t virtual_bytes = 0;
  int64_t open_fds = 0;
  int64_t threads = 0;
  double start_unix_seconds = 0;
};
// For a page that is rendered up to 20 times a second: the thread's last answer while it is less
// than a second old, for reading these files can take the kernel milliseconds.
ProcessStats ReadProcessStats();

// RssAnon alone.
int64_t ResidentAnonymousBytes();

}  // namespace vernier
