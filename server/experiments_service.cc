// vernier.v1.Experiments: which variant serves whom, and what that shows.
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "server/experiments/registry.h"
#include "server/reactors.h"
#include "server/services.h"
#include "vernier/v1/experiments.grpc.pb.h"

namespace vernier {
namespace {

using grpc::ByteBuffer;
using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;

using Base = v1::Experiments::WithRawCallbackMethod_Put<v1::Experiments::WithRawCallbackMethod_Get<
    v1::Experiments::WithRawCallbackMethod_List<v1::Experiments::WithRawCallbackMethod_Control<
        v1::Experiments::WithRawCallbackMethod_ExplainAssignment<v1::Experiments::Service>>>>>;

class ExperimentsService : public Base {
 public:
  explicit ExperimentsService(ServerState* state) : state_(state) {}

  ServerUnaryReactor* Put(CallbackServerContext* context, const ByteBuffer* request,
                          ByteBuffer* reply) override {
    return Answering<v1::PutExperimentRequest>(
        Method::kPutExperiment, context, request, reply,
        [](Experiments* e, const auto& m) { return e->Put(m.experiment()); });
  }
  ServerUnaryReactor* Get(CallbackServerContext* context, const ByteBuffer* request,
                          ByteBuffer* reply) override {
    return Answering<v1::GetExperimentRequest>(
        Method::kGetExperiment, context, request, reply,
        [](Experiments* e, const auto& m) { return e->Report(m.id(), m.rebuild()); });
  }
  ServerUnaryReactor* List(CallbackServerContext* context, const ByteBuffer* request,
                           ByteBuffer* reply) override {
    return Answering<v1::ListExperimentsRequest>(
        Method::kListExperiments, context, request, reply,
        [](Experiments* e, const auto&) -> absl::StatusOr<v1::ListExperimentsResponse> {
          return e->List();
        });
  }
  ServerUnaryReactor* Control(CallbackServerContext* context, const ByteBuffer* request,
                              ByteBuffer* reply) override {
    return Answering<v1::ControlExperimentRequest>(
        Method::kControlExperiment, context, request, reply,
        [](Experiments* e, const auto& m) { return e->Control(m); });
  }
  ServerUnaryReactor* ExplainAssignment(CallbackServerContext* context, const ByteBuffer* request,
                                        ByteBuffer* reply) override {
    return Answering<v1::ExplainAssignmentRequest>(
        Method::kExplainAssignment, context, request, reply,
        [](Experiments* e, const auto& m) -> absl::StatusOr<v1::ExplainAssignmentResponse> {
          return e->Explain(m);
        });
  }

 private:
  // Off gRPC's threads: they read and write files.
  template <typename Request, typename Ask>
  ServerUnaryReactor* Answering(Method method, CallbackServerContext* context,
                                const ByteBuffer* request, ByteBuffer* reply, Ask ask) {
    return StartAsking<Request>(
        state_, method, Work::kLong, context, request, reply,
        [ask](const Served& served,
              const Request& message) -> decltype(ask(served.experiments, message)) {
          if (served.experiments == nullptr) return NoExperiments();
          return ask(served.experiments, message);
        });
  }

  ServerState* const state_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeExperimentsService(ServerState* state) {
  return std::make_unique<ExperimentsService>(state);
}

}  // namespace vernier
