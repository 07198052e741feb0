// The grammar of `vernier`: arguments in, options or a help page out.
#pragma once

#include <string>

#include "cli/options.h"

namespace vernier::cli {

struct ParsedCommandLine {
  int exit_code = -1;  // >= 0: print `message` (0: a help page) and end
  std::string message;
  CommandLine command;
};

// Reads the environment's VERNIER_SERVER where there is no --server.
ParsedCommandLine ParseCommandLine(int argc, const char* const* argv);

}  // namespace vernier::cli
