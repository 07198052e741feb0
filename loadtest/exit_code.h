// What the process says to the shell, after sysexits.h.
#pragma once

namespace vernier::loadtest {

inline constexpr int kExitGood = 0;
inline constexpr int kExitOther = 1;
inline constexpr int kExitUsage = 64;
inline constexpr int kExitBadInput = 65;     // a trace or report that cannot be read
inline constexpr int kExitUnavailable = 69;  // no server
inline constexpr int kExitCannotWrite = 73;

}  // namespace vernier::loadtest
