// An absl::Status as gRPC sends it: code, text, google.rpc details, retry pushback.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"

namespace vernier {

struct WireStatus {
  int code = 0;
  std::string message;
  std::string details;                 // google.rpc.Status, serialized; empty: none
  std::optional<int64_t> pushback_ms;  // the trailer grpc-retry-pushback-ms; negative: do not retry
};

// RESOURCE_EXHAUSTED and UNAVAILABLE always carry a pushback: the status's own hint with a jitter
// of 20 %, within 50 ms and 10 s. INTERNAL is told as a fixed text with an incident id, and the
// status itself goes to the log under that id.
WireStatus ToWire(const absl::Status& status);

}  // namespace vernier
