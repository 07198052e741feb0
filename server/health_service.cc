// grpc.health.v1.Health over the health board.
#include <grpcpp/grpcpp.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "grpc/health/v1/health.grpc.pb.h"
#include "server/parse.h"
#include "server/reactors.h"
#include "server/services.h"

namespace vernier {
namespace {

using grpc::ByteBuffer;
using grpc::CallbackServerContext;
using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

constexpr int64_t kMaxRequestBytes = 4096;

absl::StatusOr<std::string> ServiceName(const ByteBuffer& request) {
  if (request.Length() > kMaxRequestBytes) {
    return MessageTooLarge(static_cast<int64_t>(request.Length()), kMaxRequestBytes);
  }
  HealthCheckRequest message;
  if (absl::Status status = ParseMessage(ContentOf(request), kMaxRequestBytes, &message);
      !status.ok()) {
    return status;
  }
  return message.service();
}

ByteBuffer StateMessage(std::optional<bool> serving) {
  HealthCheckResponse message;
  message.set_status(!serving   ? HealthCheckResponse::SERVICE_UNKNOWN
                     : *serving ? HealthCheckResponse::SERVING
                                : HealthCheckResponse::NOT_SERVING);
  return BufferOf(message);
}

// Sends the state now and after each change. gRPC's threads and those that change the board call
// in; owned by itself until OnDone, and by the board while it watches.
class WatchReactor : public grpc::ServerWriteReactor<ByteBuffer>,
                     public HealthWatcher,
                     public std::enable_shared_from_this<WatchReactor> {
 public:
  WatchReactor(ServerState* state, CallbackServerContext* context)
      : state_(state), context_(context) {}

  void Start(const ByteBuffer& request) {
    self_ = shared_from_this();
    state_->watches()->Begin();
    state_->metrics()->CallStarted(Method::kHealthWatch);
    arrived_ = state_->clock()->Now();
    auto name = ServiceName(request);
    if (!name.ok()) {
      {
        MutexLock lock(&mutex_);
        finished_ = true;
      }
      return End(name.status());
    }
    name_ = *std::move(name);
    state_->health()->Watch(self_);
    OnHealthChanged();
  }

  void OnHealthChanged() override {
    // In this order: once closed, the state is the last.
    const bool closed = state_->health()->closed();
    const std::optional<bool> serving = state_->health()->Serving(name_);
    bool end = false;
    {
      MutexLock lock(&mutex_);
      // A write in flight looks again when it is done.
      if (finished_ || cancelled_ || in_flight_) return;
      end = sent_ && last_ == serving;
      if (end && !closed) return;
      finished_ = end;
      in_flight_ = !end;
      sent_ = true;
      last_ = serving;
    }
    if (end) return End(absl::UnavailableError("the server is stopping"));
    buffer_ = StateMessage(serving);
    StartWrite(&buffer_);
  }

  void OnWriteDone(bool ok) override {
    bool end = false;
    {
      MutexLock lock(&mutex_);
      in_flight_ = false;
      end = (cancelled_ || !ok) && !finished_;
      finished_ = finished_ || end;
    }
    if (end) return End(absl::CancelledError("the client cancelled"));
    OnHealthChanged();
  }

  void OnCancel() override {
    bool end = false;
    {
      MutexLock lock(&mutex_);
      cancelled_ = true;
      end = !in_flight_ && !finished_;
      finished_ = finished_ || end;
    }
    if (end) End(absl::CancelledError("the client cancelled"));
  }

  void OnDone() override {
    const std::shared_ptr<WatchReactor> last_reference = std::move(self_);
    state_->watches()->End();
  }

 private:
  void End(const absl::Status& status) {
    state_->health()->Unwatch(this);
    state_->metrics()->CallFinished(Method::kHealthWatch, status.code(),
                                    state_->clock()->Now() - arrived_);
    Finish(FinishStatus(context_, status, -1));
  }

  ServerState* const state_;
  CallbackServerContext* const context_;
  std::shared_ptr<WatchReactor> self_;
  std::string name_;
  absl::Duration arrived_;
  ByteBuffer buffer_;  // of the write in flight

  Mutex mutex_;
  bool in_flight_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool sent_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<bool> last_ ABSL_GUARDED_BY(mutex_);
};

using HealthBase =
    Health::WithRawCallbackMethod_Check<Health::WithRawCallbackMethod_Watch<Health::Service>>;

class HealthService : public HealthBase {
 public:
  explicit HealthService(ServerState* state) : state_(state) {}

  grpc::ServerUnaryReactor* Check(CallbackServerContext* context, const ByteBuffer* request,
                                  ByteBuffer* reply) override {
    const absl::Duration arrived = state_->clock()->Now();
    state_->metrics()->CallStarted(Method::kHealthCheck);
    absl::Status status;
    if (auto name = ServiceName(*request); !name.ok()) {
      status = name.status();
    } else if (const auto serving = state_->health()->Serving(*name); serving) {
      *reply = StateMessage(serving);
    } else {
      status = absl::NotFoundError("no such health name");
    }
    state_->metrics()->CallFinished(Method::kHealthCheck, status.code(),
                                    state_->clock()->Now() - arrived);
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(FinishStatus(context, status, -1));
    return reactor;
  }

  grpc::ServerWriteReactor<ByteBuffer>* Watch(CallbackServerContext* context,
                                              const ByteBuffer* request) override {
    auto reactor = std::make_shared<WatchReactor>(state_, context);
    reactor->Start(*request);
    return reactor.get();
  }

 private:
  ServerState* const state_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeHealthService(ServerState* state) {
  return std::make_unique<HealthService>(state);
}

}  // namespace vernier
