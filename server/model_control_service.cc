// vernier.v1.ModelControl: which variants are in memory.
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "engine/status_payload.h"
#include "server/convert.h"
#include "server/model_control_calls.h"
#include "server/parse.h"
#include "server/reactors.h"
#include "server/services.h"
#include "vernier/v1/model_control.grpc.pb.h"

namespace vernier {
namespace {

using grpc::ByteBuffer;
using grpc::CallbackServerContext;
using v1::ModelControl;

using Base = ModelControl::WithRawCallbackMethod_LoadVariant<
    ModelControl::WithRawCallbackMethod_UnloadVariant<
        ModelControl::WithRawCallbackMethod_PlanMemory<ModelControl::Service>>>;

template <typename Request, typename Call>
MakeCall MakerOf(ServerState* state) {
  return [state](const Served& served, const CallContext& context, Responder* responder,
                 const std::string& bytes) -> absl::StatusOr<std::shared_ptr<EngineCall>> {
    auto message = ParseAs<Request>(bytes);
    if (!message.ok()) return message.status();
    if (state->control().models == nullptr) {
      return absl::FailedPreconditionError("this server cannot load variants while it runs");
    }
    if (message->variant().empty()) {
      return InvalidField({"variant", "", "a variant of the configuration"});
    }
    auto variant = ResolveVariant("", message->variant(), *served.model);
    if (!variant.ok()) return variant.status();
    return std::make_shared<Call>(&served, context, responder, state->control().models, *variant);
  };
}

class ModelControlService : public Base {
 public:
  explicit ModelControlService(ServerState* state) : state_(state) {}

  grpc::ServerWriteReactor<ByteBuffer>* LoadVariant(CallbackServerContext* context,
                                                    const ByteBuffer* request) override {
    return StartStream(state_, Method::kLoadVariant, context, request,
                       MakerOf<v1::LoadVariantRequest, LoadVariantCall>(state_));
  }
  grpc::ServerUnaryReactor* UnloadVariant(CallbackServerContext* context, const ByteBuffer* request,
                                          ByteBuffer* reply) override {
    return StartUnary(state_, Method::kUnloadVariant, context, request, reply,
                      MakerOf<v1::UnloadVariantRequest, UnloadVariantCall>(state_));
  }
  grpc::ServerUnaryReactor* PlanMemory(CallbackServerContext* context, const ByteBuffer* request,
                                       ByteBuffer* reply) override {
    return StartUnary(state_, Method::kPlanMemory, context, request, reply,
                      MakerOf<v1::PlanMemoryRequest, PlanMemoryCall>(state_));
  }

 private:
  ServerState* const state_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeModelControlService(ServerState* state) {
  return std::make_unique<ModelControlService>(state);
}

}  // namespace vernier
