// Failures as an exit code and a sentence that says what to do.
#pragma once

#include <grpcpp/support/status.h>

#include <string>

#include "absl/status/status.h"
#include "cli/exit_code.h"

namespace vernier::cli {

// What the caller knows of the connection when a call failed.
struct CallPlace {
  std::string server;   // HOST:PORT
  bool reached = true;  // false: no connection came about, or it broke
};

// Reads google.rpc's BadRequest and RetryInfo from the status where they are.
CommandResult Explain(const grpc::Status& status, const CallPlace& place);
// Of files and arguments: kExitBadInput.
CommandResult ExplainInput(const absl::Status& status);

// A gRPC code in words: "invalid argument".
std::string CodeWords(int code);

}  // namespace vernier::cli
