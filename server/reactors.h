// The reactors: one a call, from its bytes to its status. Included by the services' .cc files
// alone.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/server_callback.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/parse.h"
#include "server/server_state.h"

namespace vernier {

// Bytes as one string; the caller has checked the length.
std::string ContentOf(const grpc::ByteBuffer& buffer);
grpc::ByteBuffer BufferOf(const google::protobuf::Message& message);
// Adds the trailers to `context` and returns what Finish takes.
grpc::Status FinishStatus(grpc::CallbackServerContext* context, const absl::Status& status,
                          int64_t delivered_tokens);
// Makes an engine call from the request's bytes, or says why not. `variant` (-1: unknown) is for
// counting a refusal.
using MakeCall = std::function<absl::StatusOr<std::shared_ptr<EngineCall>>(
    const Served& served, const CallContext& context, Responder* responder,
    const std::string& bytes)>;

// A method whose call makes engine requests.
grpc::ServerUnaryReactor* StartUnary(ServerState* state, Method method,
                                     grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request, grpc::ByteBuffer* reply,
                                     const MakeCall& make);
grpc::ServerWriteReactor<grpc::ByteBuffer>* StartStream(ServerState* state, Method method,
                                                        grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* request,
                                                        const MakeCall& make);

// A method that only computes: `answer` fills the reply message, on the task pool when `long_work`
// says so.
enum class Work { kShort, kLong };
using Answer = std::function<absl::Status(const Served& served, const std::string& bytes,
                                          grpc::ByteBuffer* reply)>;
grpc::ServerUnaryReactor* StartPlain(ServerState* state, Method method, Work work,
                                     grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request, grpc::ByteBuffer* reply,
                                     const Answer& answer);

// The same with a request of its type: `ask` makes the reply message, or says why there is none.
template <typename Request, typename Ask>
grpc::ServerUnaryReactor* StartAsking(ServerState* state, Method method, Work work,
                                      grpc::CallbackServerContext* context,
                                      const grpc::ByteBuffer* request, grpc::ByteBuffer* reply,
                                      Ask ask) {
  return StartPlain(state, method, work, context, request, reply,
                    [ask](const Served& served, const std::string& bytes, grpc::ByteBuffer* out) {
                      auto message = ParseAs<Request>(bytes);
                      if (!message.ok()) return message.status();
                      auto answer = ask(served, *message);
                      if (!answer.ok()) return answer.status();
                      *out = BufferOf(*answer);
                      return absl::OkStatus();
                    });
}

// A method that reads a stream of messages, each taken as it comes, and answers once.
class StreamTaker {
 public:
  virtual ~StreamTaker() = default;
  // Not OK ends the call with it.
  virtual absl::Status Take(const std::string& bytes) = 0;
  virtual absl::StatusOr<grpc::ByteBuffer> Reply() = 0;
};
using MakeTaker = std::function<absl::StatusOr<std::unique_ptr<StreamTaker>>(const Served& served)>;
grpc::ServerReadReactor<grpc::ByteBuffer>* StartReading(ServerState* state, Method method,
                                                        grpc::CallbackServerContext* context,
                                                        grpc::ByteBuffer* reply,
                                                        const MakeTaker& make);

}  // namespace vernier
