// What the process says to the shell, after sysexits.h.
#pragma once

#include <string>

namespace vernier::cli {

inline constexpr int kExitGood = 0;
inline constexpr int kExitOther = 1;
inline constexpr int kExitUsage = 64;
inline constexpr int kExitBadInput = 65;     // INVALID_ARGUMENT, a broken or unreadable file
inline constexpr int kExitUnavailable = 69;  // no server, UNAVAILABLE, RESOURCE_EXHAUSTED

// How a command ended. `error` is one sentence for stderr, empty when there is none to add.
struct CommandResult {
  int exit_code = kExitGood;
  std::string error;
};

}  // namespace vernier::cli
