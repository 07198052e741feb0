// vernier.v1.Control: the daemon's state, its load and its end.
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "server/config_flags.h"
#include "server/parse.h"
#include "server/reactors.h"
#include "server/services.h"
#include "vernier/v1/control.grpc.pb.h"

namespace vernier {
namespace {

using grpc::ByteBuffer;
using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;
using v1::Control;

using ControlBase = Control::WithRawCallbackMethod_GetServerInfo<
    Control::WithRawCallbackMethod_GetLoad<Control::WithRawCallbackMethod_Drain<Control::Service>>>;

v1::GetServerInfoResponse ServerInfo(const ControlHooks& hooks, bool keys) {
  v1::GetServerInfoResponse info;
  info.set_version(kVersion);
  info.set_grpc_version(grpc::Version());
  info.set_backend(hooks.backend);
  info.set_draining(hooks.draining());
  info.set_tls(hooks.tls);
  info.set_client_certificates(hooks.client_certificates);
  info.set_keys(keys);
  return info;
}

v1::GetLoadResponse LoadOf(const Served& served) {
  const EngineSnapshot snapshot = served.engine->Snapshot();
  v1::GetLoadResponse load;
  for (size_t i = 0; i < snapshot.variants.size(); ++i) {
    const VariantLoad& from = snapshot.variants[i];
    auto* to = load.add_variants();
    to->set_variant(served.model->variants[i].name);
    to->set_requests_waiting(from.waiting);
    to->set_requests_running(from.running);
    to->set_queued_prompt_tokens(from.queued_prompt_tokens);
    to->set_kv_blocks(from.kv_blocks);
  }
  load.set_kv_blocks_total(snapshot.kv_blocks_total);
  load.set_kv_blocks_free(snapshot.kv_blocks_free);
  load.set_kv_blocks_cached(snapshot.kv_blocks_cached);
  return load;
}

class ControlService : public ControlBase {
 public:
  explicit ControlService(ServerState* state) : state_(state) {}

  ServerUnaryReactor* GetServerInfo(CallbackServerContext* context, const ByteBuffer* request,
                                    ByteBuffer* reply) override {
    return StartAsking<v1::GetServerInfoRequest>(
        state_, Method::kGetServerInfo, Work::kShort, context, request, reply,
        [this](const Served&, const auto&) -> absl::StatusOr<v1::GetServerInfoResponse> {
          return ServerInfo(state_->control(), !state_->access().open());
        });
  }
  ServerUnaryReactor* GetLoad(CallbackServerContext* context, const ByteBuffer* request,
                              ByteBuffer* reply) override {
    return StartAsking<v1::GetLoadRequest>(
        state_, Method::kGetLoad, Work::kShort, context, request, reply,
        [](const Served& served, const auto&) -> absl::StatusOr<v1::GetLoadResponse> {
          return LoadOf(served);
        });
  }
  ServerUnaryReactor* Drain(CallbackServerContext* context, const ByteBuffer* request,
                            ByteBuffer* reply) override {
    return StartAsking<v1::DrainRequest>(
        state_, Method::kDrain, Work::kShort, context, request, reply,
        [this](const Served&, const auto&) -> absl::StatusOr<v1::DrainResponse> {
          state_->control().drain();
          return v1::DrainResponse();
        });
  }

 private:
  ServerState* const state_;
};

}  // namespace

std::vector<std::unique_ptr<grpc::Service>> MakeAdminServices(ServerState* state) {
  std::vector<std::unique_ptr<grpc::Service>> services;
  services.push_back(std::make_unique<ControlService>(state));
  services.push_back(MakeModelControlService(state));
  services.push_back(MakeExperimentsService(state));
  return services;
}

}  // namespace vernier
