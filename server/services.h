// The gRPC services, registered as raw methods, and the reactors that answer their calls.
//
// grpcpp stays out of this header: main and tests see a list of services and nothing else.
#pragma once

#include <memory>
#include <vector>

#include "server/server_state.h"

namespace grpc {
class Service;
}

namespace vernier {

// Inference, Evaluation and Models. `state` outlives them.
std::vector<std::unique_ptr<grpc::Service>> MakeServices(ServerState* state);
// Control, ModelControl and Experiments: what the admin listener has, and no other.
std::vector<std::unique_ptr<grpc::Service>> MakeAdminServices(ServerState* state);
std::unique_ptr<grpc::Service> MakeModelControlService(ServerState* state);
std::unique_ptr<grpc::Service> MakeExperimentsService(ServerState* state);
// grpc.health.v1.Health of our own: gRPC's needs a service beside it, and knows no liveness.
std::unique_ptr<grpc::Service> MakeHealthService(ServerState* state);

}  // namespace vernier
