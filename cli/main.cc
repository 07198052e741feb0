// vernier: the command line.
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "cli/commands.h"

int main(int argc, char** argv) {
  // gRPC's own log would say beside our sentence what it says.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  try {
    return vernier::cli::Run(argc, argv, vernier::cli::ProcessTerminal());
  } catch (const std::exception& error) {  // std::bad_alloc, std::system_error of a thread
    std::fprintf(stderr, "vernier: %s\n", error.what());
    return vernier::cli::kExitOther;
  }
}
