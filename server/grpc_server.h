// The gRPC listeners: the serving port with every service, and the health port with health alone.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/server_state.h"

namespace vernier {

struct GrpcOptions {
  std::string listen;         // HOST:PORT, port 0 picks one
  std::string health_listen;  // empty: none
  bool reflection = false;
  absl::Duration longest_stream = absl::Hours(1);  // grace of a connection's age
  int max_threads = 64;
};

// True for 127.0.0.0/8, ::1, localhost and unix sockets.
bool IsLoopback(absl::string_view address);

class GrpcServer {
 public:
  // Binds and serves. UNAVAILABLE when an address is in use or cannot be bound.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(const GrpcOptions& options,
                                                           ServerState* state);
  virtual ~GrpcServer() = default;  // Shutdown at once
  // HOST:PORT as bound; the health one is empty where there is none.
  virtual std::string address() const = 0;
  virtual std::string health_address() const = 0;
  // Accepts nothing more; calls still alive after `grace` are cancelled. Idempotent.
  virtual void Shutdown(absl::Duration grace) = 0;
};

// Below 1.59.2, the first release with every fix that operations.md 3.1 lists.
bool GrpcIsOld();

// From here on gRPC's own errors are lines of our log, escaped like every other.
void LogForGrpc();

// Connects to `address` and asks for its liveness name: whether the port is alive, not what it
// says. Opens its own connection.
absl::Status DialHealth(const std::string& address, absl::Duration timeout);

}  // namespace vernier
