#include "server/grpc_server.h"

#include <fcntl.h>
#include <grpc/support/log.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/server_builder_option.h>
#include <grpcpp/impl/server_builder_plugin.h>
#include <grpcpp/resource_quota.h>

#include <atomic>
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
void SetArguments(grpc::ServerBuilder* builder, const GrpcOptions& options,
                  int64_t max_message_bytes) {
  builder->SetMaxReceiveMessageSize(static_cast<int>(max_message_bytes + kSlackBytes));
  builder->AddChannelArgument("grpc.compression_enabled_algorithms_bitset", 1);
  builder->AddChannelArgument("grpc.max_metadata_size", 8192);
  builder->AddChannelArgument("grpc.max_concurrent_streams", options.max_streams);
  builder->AddChannelArgument("grpc.max_connection_idle_ms", 300000);
  builder->AddChannelArgument("grpc.max_connection_age_ms", 3600000);
  builder->AddChannelArgument("grpc.max_connection_age_grace_ms",
                              static_cast<int>(absl::ToInt64Milliseconds(options.longest_stream)));
  builder->AddChannelArgument("grpc.keepalive_time_ms", 30000);
  builder->AddChannelArgument("grpc.keepalive_timeout_ms", 10000);
  builder->AddChannelArgument("grpc.http2.min_recv_ping_interval_without_data_ms", 10000);
  builder->AddChannelArgument("grpc.http2.max_ping_strikes", 2);
  // What is read at once is parsed at once: of 4 MiB, the default, 16,000 streams that are reset,
  // before the reset guard counts the first.
  builder->AddChannelArgument("grpc.experimental.tcp_max_read_chunk_size", 65536);
}

std::shared_ptr<grpc::ServerCredentials> Credentials(const TlsFiles& files,
                                                     absl::Duration refresh) {
  if (!files.enabled()) return grpc::InsecureServerCredentials();
  namespace tls = grpc::experimental;
  tls::TlsServerCredentialsOptions options(std::make_shared<tls::FileWatcherCertificateProvider>(
      files.key, files.certificate, files.client_ca,
      static_cast<unsigned>(absl::ToInt64Seconds(refresh))));
  options.watch_identity_key_cert_pairs();
  if (!files.client_ca.empty()) {
    options.watch_root_certs();
    options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
    // The chain is verified by the handshake; a client has no host name to be checked.
    options.set_certificate_verifier(std::make_shared<tls::NoOpCertificateVerifier>());
  }
  return tls::TlsServerCredentials(options);
}

// gRPC's reflection library adds itself to every server of the process once it is linked.
class WithoutReflection : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    std::erase_if(*plugins,
                  [](const auto& plugin) { return plugin->name() == "proto_server_reflection"; });
  }
};

// Where and how one of them listens.
struct Door {
  std::string listen;
  TlsFiles files;
  ConnectionLimits connections;
  ResetGuard* resets = nullptr;  // null: nobody is cut off
};

// A gRPC server whose connections an Acceptor takes: it alone can limit them.
class Listener {
 public:
  static absl::StatusOr<std::unique_ptr<Listener>> Start(
      const Door& door, const GrpcOptions& options, const ServerLimits& limits,
      std::vector<std::unique_ptr<grpc::Service>> services) {
    if (door.files.enabled()) {
      if (absl::Status status = CheckTlsFiles(door.files); !status.ok()) return status;
    }
    auto acceptor = Acceptor::Listen(door.listen, door.connections);
    if (!acceptor.ok()) return acceptor.status();
    auto listener = std::make_unique<Listener>();
    listener->acceptor_ = *std::move(acceptor);
    if (door.resets != nullptr) {
      door.resets->SetCut(
          [taken = listener->acceptor_.get()](const std::string& peer) { taken->Cut(peer); });
    }
    listener->services_ = std::move(services);
    grpc::ServerBuilder builder;
    SetArguments(&builder, options, limits.max_message_bytes);
    grpc::ResourceQuota quota("vernier");
    quota.SetMaxThreads(options.max_threads);
    builder.SetResourceQuota(quota);
    if (!options.reflection) builder.SetOption(std::make_unique<WithoutReflection>());
    using Experimental = grpc::ServerBuilder::experimental_type;
    listener->door_ = builder.experimental().AddExternalConnectionAcceptor(
        Experimental::ExternalConnectionType::FROM_FD,
        Credentials(door.files, options.certificate_refresh));
    for (const auto& service : listener->services_) builder.RegisterService(service.get());
    listener->server_ = builder.BuildAndStart();
    if (listener->server_ == nullptr) {
      return absl::UnavailableError(absl::StrCat("gRPC does not serve ", door.listen));
    }
    listener->acceptor_->Start([door = listener->door_.get()](int descriptor) {
      grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters taken;
      taken.fd = descriptor;
      door->HandleNewConnection(&taken);
    });
    return listener;
  }
  ~Listener() { Shutdown(absl::ZeroDuration()); }

  Acceptor* acceptor() const { return acceptor_.get(); }
  void Shutdown(absl::Duration grace) {
    if (server_ == nullptr) return;
    acceptor_->Close();  // a server that is shut down leaves descriptors open
    // Shut down, gRPC ends calls that still arrive as CANCELLED, which nobody retries; whose
    // connection has ended is told UNAVAILABLE.
    acceptor_->HangUp(grace);
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
    server_.reset();
  }

 private:
  std::vector<std::unique_ptr<grpc::Service>> services_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> door_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Acceptor> acceptor_;
};

class Listeners : public GrpcServer {
 public:
  // Binds them all.
  absl::Status Start(const GrpcOptions& options, ServerState* state) {
    std::vector<std::unique_ptr<grpc::Service>> services = MakeServices(state);
    services.push_back(MakeHealthService(state));
    tls_ = options.tls.enabled();
    absl::Status status = Open({options.listen, options.tls, options.connections, state->resets()},
                               options, *state, std::move(services), &serving_);
    if (status.ok() && !options.health_listen.empty()) {
      std::vector<std::unique_ptr<grpc::Service>> alone;
      alone.push_back(MakeHealthService(state));
      GrpcOptions bare = options;
      bare.reflection = false;
      status = Open({options.health_listen, {}, options.side_connections}, bare, *state,
                    std::move(alone), &health_);
    }
    if (status.ok() && !options.admin_listen.empty()) {
      status = Open({options.admin_listen, options.admin_tls, options.side_connections}, options,
                    *state, MakeAdminServices(state), &admin_);
    }
    return status;
  }

  std::string address() const override { return AddressOf(serving_); }
  std::string health_address() const override { return AddressOf(health_); }
  std::string admin_address() const override { return AddressOf(admin_); }
  ConnectionCounts Connections() override { return serving_->acceptor()->Counts(); }
  absl::Status Dial(absl::Duration timeout) override {
    const auto expect = [acceptor = serving_->acceptor()](int port) { acceptor->Expect(port); };
    return tls_ ? DialTls(address(), timeout, expect) : DialHealth(address(), timeout, expect);
  }
  void Shutdown(absl::Duration grace) override {
    serving_->Shutdown(grace);
    for (const auto& listener : {health_.get(), admin_.get()}) {
      if (listener != nullptr) listener->Shutdown(absl::ZeroDuration());
    }
  }

 private:
  static absl::Status Open(const Door& door, const GrpcOptions& options, const ServerState& state,
                           std::vector<std::unique_ptr<grpc::Service>> services,
                           std::unique_ptr<Listener>* out) {
    auto started = Listener::Start(door, options, state.limits(), std::move(services));
    if (!started.ok()) return started.status();
    *out = *std::move(started);
    return absl::OkStatus();
  }
  static std::string AddressOf(const std::unique_ptr<Listener>& listener) {
    return listener == nullptr ? "" : listener->acceptor()->address();
  }

  bool tls_ = false;
  std::unique_ptr<Listener> serving_, health_, admin_;
};

// Over a connection of its own.
absl::StatusOr<grpc::health::v1::HealthCheckResponse::ServingStatus> CheckHealth(
    const std::string& address, const std::string& name, absl::Duration timeout,
    const Announce& announce) {
  auto connected = Connect(address, timeout, announce);
  if (!connected.ok()) return connected.status();
  if (fcntl(connected->descriptor(), F_SETFL, O_NONBLOCK) != 0) {
    return absl::InternalError("fcntl");
  }
  const auto stub = grpc::health::v1::Health::NewStub(
      grpc::CreateInsecureChannelFromFd(address, connected->Release()));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(timeout));
  grpc::health::v1::HealthCheckRequest request;
  grpc::health::v1::HealthCheckResponse reply;
  request.set_service(name);
  const grpc::Status status = stub->Check(&context, request, &reply);
  if (status.ok()) return reply.status();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

std::atomic<int64_t> tls_failures{0};

}  // namespace

std::string GrpcVersion() { return grpc::Version(); }

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
  if (options.reflection)
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();  // once counts
  auto server = std::make_unique<Listeners>();
  if (absl::Status status = server->Start(options, state); !status.ok()) return status;
  return server;
}

void LogForGrpc() {
  gpr_set_log_function([](gpr_log_func_args* args) {
    if (args->severity != GPR_LOG_SEVERITY_ERROR) return;
    if (absl::StrContains(args->message, "Handshake failed")) {
      tls_failures.fetch_add(1, std::memory_order_relaxed);
    } else {
      Log(LogLevel::kError, absl::StrCat("grpc: ", args->message));
    }
  });
}

int64_t TlsFailures() { return tls_failures.load(std::memory_order_relaxed); }

absl::Status DialHealth(const std::string& address, absl::Duration timeout,
                        const Announce& announce) {
  return CheckHealth(address, "liveness", timeout, announce).status();
}

absl::Status AskReadiness(const std::string& address, absl::Duration timeout) {
  const auto state = CheckHealth(address, "readiness", timeout, nullptr);
  if (!state.ok()) return state.status();
  return *state == grpc::health::v1::HealthCheckResponse::SERVING
             ? absl::OkStatus()
             : absl::UnavailableError("not ready");
}

}  // namespace vernier
