#include "server/grpc_server.h"

#include <grpc/support/log.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>

#include <chrono>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "kernels/base/log.h"
#include "server/services.h"

namespace vernier {
namespace {

// What the raw handler refuses with a hint must first get past the core.
constexpr int64_t kSlackBytes = 64 << 10;

// operations.md 3.2, one a row: name, value.
void SetArguments(grpc::ServerBuilder* builder, int64_t max_message_bytes,
                  absl::Duration longest_stream) {
  builder->SetMaxReceiveMessageSize(static_cast<int>(max_message_bytes + kSlackBytes));
  builder->AddChannelArgument("grpc.compression_enabled_algorithms_bitset", 1);
  builder->AddChannelArgument("grpc.max_metadata_size", 8192);
  builder->AddChannelArgument("grpc.max_concurrent_streams", 256);
  builder->AddChannelArgument("grpc.max_connection_idle_ms", 300000);
  builder->AddChannelArgument("grpc.max_connection_age_ms", 3600000);
  builder->AddChannelArgument("grpc.max_connection_age_grace_ms",
                              static_cast<int>(absl::ToInt64Milliseconds(longest_stream)));
  builder->AddChannelArgument("grpc.keepalive_time_ms", 30000);
  builder->AddChannelArgument("grpc.keepalive_timeout_ms", 10000);
  builder->AddChannelArgument("grpc.http2.min_recv_ping_interval_without_data_ms", 10000);
  builder->AddChannelArgument("grpc.http2.max_ping_strikes", 2);
  builder->AddChannelArgument("grpc.so_reuseport", 0);
}

class Listener {
 public:
  static absl::StatusOr<std::unique_ptr<Listener>> Start(
      const std::string& listen, const GrpcOptions& options, const ServerLimits& limits,
      std::vector<std::unique_ptr<grpc::Service>> services) {
    auto listener = std::make_unique<Listener>();
    listener->services_ = std::move(services);
    grpc::ServerBuilder builder;
    SetArguments(&builder, limits.max_message_bytes, options.longest_stream);
    grpc::ResourceQuota quota("vernier");
    quota.SetMaxThreads(options.max_threads);
    builder.SetResourceQuota(quota);
    int port = 0;
    builder.AddListeningPort(listen, grpc::InsecureServerCredentials(), &port);
    for (const auto& service : listener->services_) builder.RegisterService(service.get());
    listener->server_ = builder.BuildAndStart();
    if (listener->server_ == nullptr || port == 0) {
      return absl::UnavailableError(absl::StrCat(
          "cannot listen on ", listen, ": the port is in use or the address is not ours"));
    }
    listener->address_ = absl::StrCat(listen.substr(0, listen.rfind(':')), ":", port);
    return listener;
  }
  ~Listener() { Shutdown(absl::ZeroDuration()); }

  const std::string& address() const { return address_; }
  void Shutdown(absl::Duration grace) {
    if (server_ == nullptr) return;
    server_->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(grace));
    server_->Wait();
    server_.reset();
  }

 private:
  std::vector<std::unique_ptr<grpc::Service>> services_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

class TwoListeners : public GrpcServer {
 public:
  TwoListeners(std::unique_ptr<Listener> serving, std::unique_ptr<Listener> health)
      : serving_(std::move(serving)), health_(std::move(health)) {}

  std::string address() const override { return serving_->address(); }
  std::string health_address() const override {
    return health_ == nullptr ? "" : health_->address();
  }
  void Shutdown(absl::Duration grace) override {
    serving_->Shutdown(grace);
    if (health_ != nullptr) health_->Shutdown(absl::ZeroDuration());
  }

 private:
  std::unique_ptr<Listener> serving_;
  std::unique_ptr<Listener> health_;
};

}  // namespace

bool IsLoopback(absl::string_view address) {
  return absl::StartsWith(address, "127.") || absl::StartsWith(address, "[::1]") ||
         absl::StartsWith(address, "localhost:") || absl::StartsWith(address, "unix:");
}

bool GrpcIsOld() {
  int version[3] = {0, 0, 0};
  const std::vector<std::string> parts = absl::StrSplit(grpc::Version(), '.');
  for (size_t i = 0; i < 3 && i < parts.size(); ++i) {
    if (!absl::SimpleAtoi(parts[i], &version[i])) return true;
  }
  return std::tie(version[0], version[1], version[2]) < std::make_tuple(1, 59, 2);
}

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(const GrpcOptions& options,
                                                              ServerState* state) {
  // A plugin of the process: it can be switched on before the first listener, never off.
  if (options.reflection) grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  std::vector<std::unique_ptr<grpc::Service>> services = MakeServices(state);
  services.push_back(MakeHealthService(state));
  auto serving = Listener::Start(options.listen, options, state->limits(), std::move(services));
  if (!serving.ok()) return serving.status();
  std::unique_ptr<Listener> health;
  if (!options.health_listen.empty()) {
    std::vector<std::unique_ptr<grpc::Service>> alone;
    alone.push_back(MakeHealthService(state));
    auto started =
        Listener::Start(options.health_listen, options, state->limits(), std::move(alone));
    if (!started.ok()) return started.status();
    health = *std::move(started);
  }
  return std::make_unique<TwoListeners>(*std::move(serving), std::move(health));
}

void LogForGrpc() {
  gpr_set_log_function([](gpr_log_func_args* args) {
    if (args->severity == GPR_LOG_SEVERITY_ERROR) {
      Log(LogLevel::kError, absl::StrCat("grpc: ", args->message));
    }
  });
}

absl::Status DialHealth(const std::string& address, absl::Duration timeout) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a new connection each time
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  const auto channel =
      grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  const auto stub = grpc::health::v1::Health::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(timeout));
  grpc::health::v1::HealthCheckRequest request;
  grpc::health::v1::HealthCheckResponse reply;
  request.set_service("liveness");
  const grpc::Status status = stub->Check(&context, request, &reply);
  if (status.ok()) return absl::OkStatus();
  return {static_cast<absl::StatusCode>(status.error_code()), status.error_message()};
}

}  // namespace vernier
