#include "server/reactors.h"

#include <google/protobuf/message.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/status_payload.h"
#include "kernels/base/check.h"
#include "server/arrival.h"
#include "server/parse.h"
#include "server/wire_status.h"

namespace vernier {
namespace {

constexpr size_t kMaxWaitingPlainTasks = 64;

absl::Status NotLoadedYet() { return absl::UnavailableError("the model is still loading"); }

// What both kinds of engine calls share: making the call, and counting it when it is refused before
// it exists.
template <typename Reactor>
void Begin(Reactor* reactor, ServerState* state, Method method,
           const grpc::CallbackServerContext& context, const grpc::ByteBuffer& request,
           const MakeCall& make, Arrival* arrival, std::shared_ptr<EngineCall>* call) {
  state->calls()->Begin();
  state->metrics()->CallStarted(method);
  CallContext call_context;
  absl::Status status = arrival->Check(context, method, request, &call_context);
  const Served* served = state->served();
  if (status.ok()) status = served == nullptr ? NotLoadedYet() : served->engine->CheckNotFull();
  if (status.ok()) {
    auto made = make(*served, call_context, reactor, ContentOf(request));
    if (made.ok()) {
      *call = *std::move(made);
      (*call)->Start();
      return;
    }
    status = made.status();
  }
  state->metrics()->Rejected(method, -1, status);
  state->metrics()->CallFinished(method, status.code(),
                                 state->clock()->Now() - call_context.arrived);
  static_cast<Responder*>(reactor)->Finish(status, nullptr, -1);
}

class UnaryReactor : public grpc::ServerUnaryReactor, public Responder {
 public:
  UnaryReactor(ServerState* state, grpc::CallbackServerContext* context, grpc::ByteBuffer* reply)
      : state_(state), context_(context), reply_(reply), arrival_(state) {}

  void Start(Method method, const grpc::ByteBuffer& request, const MakeCall& make) {
    Begin(this, state_, method, *context_, request, make, &arrival_, &call_);
  }

  void Write(const google::protobuf::Message&) override { VERNIER_CHECK(false); }
  void Finish(const absl::Status& status, const google::protobuf::Message* reply,
              int64_t delivered_tokens) override {
    if (reply != nullptr) *reply_ = BufferOf(*reply);
    grpc::ServerUnaryReactor::Finish(FinishStatus(context_, status, delivered_tokens));
  }
  void OnCancel() override {
    if (call_ != nullptr) call_->Cancel();
  }
  void OnDone() override {
    state_->calls()->End();
    delete this;
  }

 private:
  ServerState* const state_;
  grpc::CallbackServerContext* const context_;
  grpc::ByteBuffer* const reply_;
  Arrival arrival_;
  std::shared_ptr<EngineCall> call_;
};

class StreamReactor : public grpc::ServerWriteReactor<grpc::ByteBuffer>, public Responder {
 public:
  StreamReactor(ServerState* state, grpc::CallbackServerContext* context)
      : state_(state), context_(context), arrival_(state) {}

  void Start(Method method, const grpc::ByteBuffer& request, const MakeCall& make) {
    Begin(this, state_, method, *context_, request, make, &arrival_, &call_);
  }

  void Write(const google::protobuf::Message& message) override {
    buffer_ = BufferOf(message);
    StartWrite(&buffer_);
  }
  void Finish(const absl::Status& status, const google::protobuf::Message*,
              int64_t delivered_tokens) override {
    grpc::ServerWriteReactor<grpc::ByteBuffer>::Finish(
        FinishStatus(context_, status, delivered_tokens));
  }
  void OnWriteDone(bool ok) override { call_->OnWritten(ok); }
  void OnCancel() override {
    if (call_ != nullptr) call_->Cancel();
  }
  void OnDone() override {
    state_->calls()->End();
    delete this;
  }

 private:
  ServerState* const state_;
  grpc::CallbackServerContext* const context_;
  grpc::ByteBuffer buffer_;  // of the write in flight
  Arrival arrival_;
  std::shared_ptr<EngineCall> call_;
};

// The bookkeeping of a call that makes no engine request.
class CountedCall {
 public:
  CountedCall(ServerState* state, Method method, grpc::CallbackServerContext* context)
      : state_(state), method_(method), context_(context), arrival_(state) {}

  // What is served, or why this call may not begin.
  absl::StatusOr<const Served*> Begin(const grpc::ByteBuffer& request) {
    state_->calls()->Begin();
    state_->metrics()->CallStarted(method_);
    CallContext call_context;
    absl::Status status = arrival_.Check(*context_, method_, request, &call_context);
    arrived_ = call_context.arrived;
    const Served* served = state_->served();
    if (status.ok() && served == nullptr) status = NotLoadedYet();
    if (!status.ok()) return status;
    return served;
  }
  // What the reactor's Finish takes.
  grpc::Status End(const absl::Status& status) {
    state_->metrics()->CallFinished(method_, status.code(), state_->clock()->Now() - arrived_);
    return FinishStatus(context_, status, -1);
  }
  void Done() { state_->calls()->End(); }

 private:
  ServerState* const state_;
  const Method method_;
  grpc::CallbackServerContext* const context_;
  Arrival arrival_;
  absl::Duration arrived_;
};

class PlainReactor : public grpc::ServerUnaryReactor {
 public:
  PlainReactor(ServerState* state, Method method, grpc::CallbackServerContext* context,
               grpc::ByteBuffer* reply)
      : call_(state, method, context), reply_(reply) {}

  void Start(Work work, const grpc::ByteBuffer& request, const Answer& answer) {
    const auto served = call_.Begin(request);
    if (!served.ok()) return End(served.status());
    std::string bytes = ContentOf(request);
    if (work == Work::kShort) return End(answer(**served, bytes, reply_));
    const bool posted = (*served)->tasks->TryPost(
        [this, served = *served, answer, bytes = std::move(bytes)] {
          End(answer(*served, bytes, reply_));
        },
        kMaxWaitingPlainTasks);
    if (!posted) {
      End(Rejected(RejectReason::kQueueRequests, "too many texts wait to be tokenized",
                   absl::Milliseconds(200)));
    }
  }
  void OnDone() override {
    call_.Done();
    delete this;
  }

 private:
  void End(const absl::Status& status) { Finish(call_.End(status)); }

  CountedCall call_;
  grpc::ByteBuffer* const reply_;
};

class ReadReactor : public grpc::ServerReadReactor<grpc::ByteBuffer> {
 public:
  ReadReactor(ServerState* state, Method method, grpc::CallbackServerContext* context,
              grpc::ByteBuffer* reply)
      : call_(state, method, context),
        reply_(reply),
        max_message_bytes_(state->limits().max_message_bytes) {}

  void Start(const MakeTaker& make) {
    const auto served = call_.Begin(grpc::ByteBuffer());
    if (!served.ok()) return End(served.status());
    tasks_ = (*served)->tasks;
    auto taker = make(**served);
    if (!taker.ok()) return End(taker.status());
    taker_ = *std::move(taker);
    StartRead(&buffer_);
  }
  void OnReadDone(bool ok) override {
    if (!ok) {  // all of them, or the client is gone
      auto reply = taker_->Reply();
      if (reply.ok()) *reply_ = *std::move(reply);
      return End(reply.status());
    }
    const auto bytes = static_cast<int64_t>(buffer_.Length());
    if (bytes > max_message_bytes_) return End(MessageTooLarge(bytes, max_message_bytes_));
    // It may wait for storage, which gRPC's threads must not.
    tasks_->Post([this] {
      absl::Status status = taker_->Take(ContentOf(buffer_));
      if (!status.ok()) return End(status);
      StartRead(&buffer_);
    });
  }
  void OnDone() override {
    call_.Done();
    delete this;
  }

 private:
  void End(const absl::Status& status) { Finish(call_.End(status)); }

  CountedCall call_;
  grpc::ByteBuffer* const reply_;
  const int64_t max_message_bytes_;
  TaskPool* tasks_ = nullptr;
  grpc::ByteBuffer buffer_;  // of the read in flight
  std::unique_ptr<StreamTaker> taker_;
};

}  // namespace

std::string ContentOf(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (!buffer.Dump(&slices).ok()) return bytes;
  bytes.reserve(buffer.Length());
  for (const grpc::Slice& slice : slices) {
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return bytes;
}

grpc::ByteBuffer BufferOf(const google::protobuf::Message& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return {&slice, 1};
}

grpc::Status FinishStatus(grpc::CallbackServerContext* context, const absl::Status& status,
                          int64_t delivered_tokens) {
  const WireStatus wire = ToWire(status);
  if (wire.pushback_ms) {
    context->AddTrailingMetadata("grpc-retry-pushback-ms", absl::StrCat(*wire.pushback_ms));
  }
  if (delivered_tokens >= 0) {
    context->AddTrailingMetadata("x-vernier-completion-tokens", absl::StrCat(delivered_tokens));
  }
  if (wire.code == 0) return grpc::Status::OK;
  return {static_cast<grpc::StatusCode>(wire.code), wire.message, wire.details};
}

grpc::ServerUnaryReactor* StartUnary(ServerState* state, Method method,
                                     grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request, grpc::ByteBuffer* reply,
                                     const MakeCall& make) {
  auto* reactor = new UnaryReactor(state, context, reply);  // deletes itself in OnDone
  reactor->Start(method, *request, make);
  return reactor;
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* StartStream(ServerState* state, Method method,
                                                        grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* request,
                                                        const MakeCall& make) {
  auto* reactor = new StreamReactor(state, context);  // deletes itself in OnDone
  reactor->Start(method, *request, make);
  return reactor;
}

grpc::ServerReadReactor<grpc::ByteBuffer>* StartReading(ServerState* state, Method method,
                                                        grpc::CallbackServerContext* context,
                                                        grpc::ByteBuffer* reply,
                                                        const MakeTaker& make) {
  auto* reactor = new ReadReactor(state, method, context, reply);  // deletes itself in OnDone
  reactor->Start(make);
  return reactor;
}

grpc::ServerUnaryReactor* StartPlain(ServerState* state, Method method, Work work,
                                     grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request, grpc::ByteBuffer* reply,
                                     const Answer& answer) {
  auto* reactor = new PlainReactor(state, method, context, reply);  // deletes itself in OnDone
  reactor->Start(work, *request, answer);
  return reactor;
}

}  // namespace vernier
