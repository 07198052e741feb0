// The door of every call but health: who the client is, what it may, and how much it sends. Decided
// before a byte of the request is copied. Included by the services' .cc files alone.
#pragma once

#include <grpcpp/grpcpp.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/server_state.h"

namespace vernier {

// "vernier.v1.Inference" without its package, of each method that has a key.
absl::string_view ServiceOf(Method method);

// The client's address without its port: "ipv4:10.0.0.1". Connections of one client share it.
std::string AddressOfPeer(absl::string_view peer);

// A call's place among those of its client; given back with it. One thread at a time.
class Arrival {
 public:
  explicit Arrival(ServerState* state) : state_(state) {}
  ~Arrival();
  Arrival(const Arrival&) = delete;
  Arrival& operator=(const Arrival&) = delete;

  // Call once; `context` outlives this. Sets method, time and tenant of `call` in any case.
  // CANCELLED for a client that has left already; UNAUTHENTICATED, PERMISSION_DENIED;
  // RESOURCE_EXHAUSTED for too many calls of one address, too large metadata or message;
  // INVALID_ARGUMENT for a tenant that is none.
  absl::Status Check(const grpc::CallbackServerContext& context, Method method,
                     const grpc::ByteBuffer& request, CallContext* call);

 private:
  ServerState* const state_;
  const grpc::CallbackServerContext* context_ = nullptr;
  std::string connection_;  // as gRPC names its client's end; empty: not checked yet
  std::string address_;     // whose place is held; empty: none
};

}  // namespace vernier
