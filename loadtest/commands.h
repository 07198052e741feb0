// The verbs of vernier-loadtest.
#pragma once

#include <atomic>
#include <ostream>

#include "loadtest/options.h"

namespace vernier::loadtest {

// Where a command writes: the report, and what is said meanwhile.
struct Streams {
  std::ostream* out;
  std::ostream* err;
  bool err_is_terminal = false;
};

// Runs the verb; returns the exit code. `stop` (Ctrl-C) ends a run early, and the report is
// written.
int Execute(const CommandLine& command, const std::atomic<bool>& stop, const Streams& streams);

}  // namespace vernier::loadtest
