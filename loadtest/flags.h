// The grammar of vernier-loadtest's command line.
#pragma once

#include <string>

#include "loadtest/options.h"

namespace vernier::loadtest {

struct ParsedCommandLine {
  CommandLine command;
  int exit_code = -1;   // >= 0: print the message and end with it
  std::string message;  // help, or what is wrong
};

// Ranges and combinations are checked; traces are read. No server is asked.
ParsedCommandLine ParseCommandLine(int argc, const char* const* argv);

}  // namespace vernier::loadtest
