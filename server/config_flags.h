// The command line of vernierd: flags that override keys of the configuration.
#pragma once

#include <string>

#include "server/config.h"

namespace vernier {

struct CommandLine {
  ParsedConfig parsed;      // file, flags over it, checked as a whole
  std::string config_file;  // for messages; "vernierd" without one
  bool check_config = false;
  std::string healthcheck;  // not empty: only ask the daemon at this address
  // save_folder not empty: only write this model of random weights there.
  std::string save_folder, random_weights;
  // Set: print it and end with `exit_code` (help, version, a flag that is none).
  std::string message;
  int exit_code = -1;
};

inline constexpr const char* kVersion = "0.1.0";

CommandLine ParseCommandLine(int argc, const char* const* argv);

}  // namespace vernier
