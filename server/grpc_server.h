// The gRPC listeners: serving, health alone, and admin.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/acceptor.h"
#include "server/server_state.h"
#include "server/tls.h"

namespace vernier {

inline constexpr int kSideConnections = 256;

struct GrpcOptions {
  std::string listen;         // HOST:PORT, port 0 picks one
  std::string health_listen;  // empty: none
  std::string admin_listen;   // empty: none
  TlsFiles tls;               // of `listen`
  TlsFiles admin_tls;
  // How often certificate files are looked at; whole seconds.
  absl::Duration certificate_refresh = absl::Seconds(10);
  int max_streams = 256;         // of a connection
  ConnectionLimits connections;  // of `listen`
  // Of the other two each: strangers have no business there.
  ConnectionLimits side_connections{.total = kSideConnections, .per_peer = kSideConnections / 4};
  bool reflection = false;
  absl::Duration longest_stream = absl::Hours(1);  // grace of a connection's age
  int max_threads = 64;
};

class GrpcServer {
 public:
  // Binds and serves. UNAVAILABLE when an address is in use or cannot be bound, INVALID_ARGUMENT
  // for certificate files that are none; these are read again every certificate_refresh, and what
  // does not fit then leaves the old ones in use.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(const GrpcOptions& options,
                                                           ServerState* state);
  virtual ~GrpcServer() = default;  // Shutdown at once
  // HOST:PORT as bound; empty where there is none.
  virtual std::string address() const = 0;
  virtual std::string health_address() const = 0;
  virtual std::string admin_address() const = 0;
  // Of the serving listener. Any thread.
  virtual ConnectionCounts Connections() = 0;
  // Connects to the serving port and sees whether it answers, whatever it says, also when it has
  // as many connections as it may. One thread at a time.
  virtual absl::Status Dial(absl::Duration timeout) = 0;
  // Accepts nothing more and ends every connection: a call that comes now, or is still alive, is
  // UNAVAILABLE to its client, as the shipped retry policy wants it. Waits up to `grace` for
  // clients to leave. Idempotent.
  virtual void Shutdown(absl::Duration grace) = 0;
};

std::string GrpcVersion();
// Below 1.59.2, the first release with every fix that operations.md 3.1 lists.
bool GrpcIsOld();

// From here on gRPC's own errors are lines of our log, escaped like every other; failed TLS
// handshakes, which any stranger can cause, are counted instead.
void LogForGrpc();
// TLS handshakes that failed since LogForGrpc: gRPC tells of them nowhere else.
int64_t TlsFailures();

// Connects to `address` and asks for its liveness name: whether the port is alive, not what it
// says. Opens its own connection.
absl::Status DialHealth(const std::string& address, absl::Duration timeout,
                        const Announce& announce = nullptr);
// OK when the plaintext health service at `address` says that `readiness` is SERVING.
absl::Status AskReadiness(const std::string& address, absl::Duration timeout);

}  // namespace vernier
