// vernierd as a child process: how it is started, and what its ready line says.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "tests/testing/child_process.h"
#include "tests/testing/test_data.h"

namespace vernier::testing {

inline std::vector<std::string> Command(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), PathFrom("VERNIER_BIN", "vernierd"));
  return arguments;
}

inline std::vector<std::string> Serving(const std::string& model,
                                        std::vector<std::string> more = {}) {
  std::vector<std::string> arguments = {"--model",   model,         "--variants", "fp16,nf4",
                                        "--listen",  "127.0.0.1:0", "--http",     "127.0.0.1:0",
                                        "--threads", "1",           "--kv-bytes", "4000000"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return Command(arguments);
}

// The address after `name`, such as "http=".
inline std::string AddressIn(const std::string& ready, absl::string_view name) {
  for (const absl::string_view word : absl::StrSplit(ready, ' ')) {
    if (absl::StartsWith(word, name)) return std::string(word.substr(name.size()));
  }
  return "";
}
inline std::string GrpcAddress(const std::string& ready) { return AddressIn(ready, "grpc="); }

}  // namespace vernier::testing
