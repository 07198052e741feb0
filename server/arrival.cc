#include "server/arrival.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/status_payload.h"
#include "server/convert.h"
#include "server/parse.h"

namespace vernier {
namespace {

constexpr char kTenantKey[] = "x-vernier-tenant";
constexpr char kRoutingKey[] = "x-vernier-routing-key";
constexpr size_t kMaxRoutingKeyBytes = 256;
constexpr char kAuthorizationKey[] = "authorization";
constexpr absl::Duration kPeerRetry = absl::Milliseconds(500);

// The value of `key`; empty when it is absent or given more than once.
absl::string_view Only(const grpc::CallbackServerContext& context, const char* key) {
  const auto [first, last] = context.client_metadata().equal_range(key);
  if (first == last || std::next(first) != last) return {};
  return {first->second.data(), first->second.size()};
}

absl::Status CheckMetadataSize(const grpc::CallbackServerContext& context, int64_t limit) {
  int64_t bytes = 0;
  for (const auto& [key, value] : context.client_metadata()) {
    bytes += static_cast<int64_t>(key.size() + value.size());
  }
  if (bytes <= limit) return absl::OkStatus();
  return Rejected(RejectReason::kNone,
                  absl::StrCat("the metadata has ", bytes, " bytes, limit ", limit),
                  -absl::Seconds(1));
}

// The tenant of a client that says `said` and whose key decides `owned`.
absl::StatusOr<std::string> TenantOf(absl::string_view said, const std::string& owned) {
  if (absl::Status status = CheckName(kTenantKey, said); !status.ok()) return status;
  if (owned.empty()) return std::string(said);
  if (said.empty() || said == owned) return owned;
  return absl::PermissionDeniedError("this key belongs to another tenant");
}

// The unit that experiments split by, as the client or its gateway says it.
absl::StatusOr<std::string> RoutingKeyOf(const grpc::CallbackServerContext& context) {
  const absl::string_view key = Only(context, kRoutingKey);
  if (key.size() <= kMaxRoutingKeyBytes) return std::string(key);
  return InvalidField({kRoutingKey, absl::StrCat(key.size(), " bytes"),
                       absl::StrCat("at most ", kMaxRoutingKeyBytes, " bytes")});
}

// The client's deadline, clamped, or the default, from now on.
absl::Duration TimeLeft(const grpc::CallbackServerContext& context, const ServerLimits& limits) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return limits.default_deadline;
  return std::min(absl::FromChrono(deadline) - absl::Now(), limits.max_deadline);
}

}  // namespace

absl::string_view ServiceOf(Method method) {
  switch (method) {
    case Method::kGenerate:
    case Method::kGenerateStream:
    case Method::kScore:
    case Method::kTokenize:
    case Method::kDetokenize:
    case Method::kFeedback:
      return "Inference";
    case Method::kCompare:
    case Method::kCompareStream:
      return "Evaluation";
    case Method::kListModels:
    case Method::kGetModel:
      return "Models";
    case Method::kGetServerInfo:
    case Method::kGetLoad:
    case Method::kDrain:
      return "Control";
    case Method::kLoadVariant:
    case Method::kUnloadVariant:
    case Method::kPlanMemory:
      return "ModelControl";
    case Method::kPutExperiment:
    case Method::kGetExperiment:
    case Method::kListExperiments:
    case Method::kControlExperiment:
    case Method::kExplainAssignment:
      return "Experiments";
    case Method::kShadow:  // never arrives
    case Method::kHealthCheck:
    case Method::kHealthWatch:
      break;
  }
  return "";
}

std::string AddressOfPeer(absl::string_view peer) {
  const size_t colon = peer.rfind(':');
  const bool has_port = colon != absl::string_view::npos && colon > peer.find(':');
  return std::string(has_port ? peer.substr(0, colon) : peer);
}

Arrival::~Arrival() {
  if (!address_.empty()) state_->peers()->End(address_);
  if (!connection_.empty()) {
    state_->resets()->End(connection_, context_->IsCancelled(), state_->clock()->Now());
  }
}

absl::Status Arrival::Check(const grpc::CallbackServerContext& context, Method method,
                            const grpc::ByteBuffer& request, CallContext* call) {
  call->method = method;
  call->arrived = state_->clock()->Now();
  call->deadline = call->arrived + TimeLeft(context, state_->limits());
  // A stream that was opened and reset at once costs no more than this.
  context_ = &context;
  connection_ = context.peer();
  state_->resets()->Begin(connection_);
  if (context.IsCancelled()) return absl::CancelledError("the client cancelled");
  const ServerLimits& limits = state_->limits();
  if (absl::Status status = CheckMetadataSize(context, limits.max_metadata_bytes); !status.ok()) {
    return status;
  }
  auto owned = state_->access().Check(ServiceOf(method), Only(context, kAuthorizationKey));
  if (!owned.ok()) return owned.status();
  auto tenant = TenantOf(Only(context, kTenantKey), *owned);
  if (!tenant.ok()) return tenant.status();
  call->tenant = *std::move(tenant);
  auto routing_key = RoutingKeyOf(context);
  if (!routing_key.ok()) return routing_key.status();
  call->routing_key = *std::move(routing_key);
  std::string address = AddressOfPeer(connection_);
  if (!state_->peers()->TryBegin(address)) {
    return Rejected(RejectReason::kPeerStreams,
                    absl::StrCat("this address has ", limits.max_peer_calls, " calls, limit ",
                                 limits.max_peer_calls),
                    kPeerRetry);
  }
  address_ = std::move(address);
  const auto bytes = static_cast<int64_t>(request.Length());
  if (bytes > limits.max_message_bytes) return MessageTooLarge(bytes, limits.max_message_bytes);
  return absl::OkStatus();
}

}  // namespace vernier
