// vernier-loadtest: load on vernierd, and what its clients get.
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>

#include "loadtest/commands.h"
#include "loadtest/exit_code.h"
#include "loadtest/flags.h"

namespace {

std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void OnInterrupt(int signal) {
  interrupted = true;
  std::signal(signal, SIG_DFL);  // the second one ends the process
}

int Main(int argc, char** argv) {
  const vernier::loadtest::ParsedCommandLine parsed =
      vernier::loadtest::ParseCommandLine(argc, argv);
  if (parsed.exit_code >= 0) {
    std::fputs(parsed.message.c_str(), parsed.exit_code == 0 ? stdout : stderr);
    return parsed.exit_code;
  }
  std::signal(SIGINT, OnInterrupt);
  return vernier::loadtest::Execute(parsed.command, interrupted,
                                    {&std::cout, &std::cerr, isatty(STDERR_FILENO) == 1});
}

}  // namespace

int main(int argc, char** argv) {
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  try {
    return Main(argc, argv);
  } catch (const std::exception& error) {  // std::bad_alloc, std::system_error of a thread
    std::fprintf(stderr, "vernier-loadtest: %s\n", error.what());
    return vernier::loadtest::kExitOther;
  }
}
