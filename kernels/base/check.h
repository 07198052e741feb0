// VERNIER_CHECK: an invariant of our own that must hold, also in release builds.
//
// Never for input: what a caller, a file or the network can cause is an absl::Status.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace vernier::internal {

[[noreturn]] inline void CheckFailed(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace vernier::internal

#define VERNIER_CHECK(condition)                     \
  (__builtin_expect(static_cast<bool>(condition), 1) \
       ? static_cast<void>(0)                        \
       : ::vernier::internal::CheckFailed(__FILE__, __LINE__, #condition))
