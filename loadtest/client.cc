#include "loadtest/client.h"

#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>
#include <grpcpp/support/client_callback.h>

#include <atomic>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "vernier/v1/inference.grpc.pb.h"
#include "vernier/v1/models.grpc.pb.h"

namespace vernier::loadtest {
namespace {

constexpr auto kConnectTimeout = std::chrono::seconds(10);

constexpr const char* kCodeNames[] = {
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};

std::string CodeName(grpc::StatusCode code) {
  const size_t index = static_cast<size_t>(code);
  return index < std::size(kCodeNames) ? kCodeNames[index] : absl::StrCat("code ", index);
}

std::shared_ptr<grpc::ChannelCredentials> Credentials(const ServerOptions& options) {
  if (options.ca.empty()) return grpc::InsecureChannelCredentials();
  return grpc::SslCredentials({options.ca, options.key, options.certificate});
}

void AddKey(const std::string& api_key, grpc::ClientContext* context) {
  if (!api_key.empty()) context->AddMetadata("authorization", "Bearer " + api_key);
}

std::shared_ptr<grpc::Channel> Dial(const ServerOptions& options) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // else all channels share a connection
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, options.retry_policy.empty() ? 0 : 1);
  if (!options.retry_policy.empty()) arguments.SetServiceConfigJSON(options.retry_policy);
  return grpc::CreateCustomChannel(options.address, Credentials(options), arguments);
}

// One call; deletes itself when it has told its end.
class Call final : public grpc::ClientReadReactor<v1::GenerateStreamResponse> {
 public:
  Call(const PlannedRequest& planned, double scheduled, std::function<double()> now,
       std::function<void(CallResult)> done)
      : planned_(planned), now_(std::move(now)), done_(std::move(done)) {
    result_.outcome.scheduled = scheduled;
    result_.outcome.tenant = planned.tenant;
    result_.outcome.variant = planned.variant;
    result_.outcome.prompt_tokens = planned.prompt_tokens;
  }

  // Held by who may cancel, beyond the call's life.
  const std::shared_ptr<grpc::ClientContext>& context() { return context_; }

  void Start(v1::Inference::Stub* stub, v1::GenerateRequest request) {
    request_ = std::move(request);
    const std::shared_ptr<grpc::ClientContext> context = context_;  // the call may end at once
    const bool cancel = planned_.cancel_after_tokens == 0;
    result_.outcome.sent = now_();
    stub->async()->GenerateStream(context.get(), &request_, this);
    StartRead(&message_);
    StartCall();
    if (cancel) context->TryCancel();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    const double at = now_();
    if (message_.has_delta()) {
      TakeTokens(message_.delta().token_ids_size(), at);
    } else if (message_.has_finish()) {
      result_.outcome.cached_tokens =
          static_cast<int64_t>(message_.finish().usage().cached_tokens());
    }
    StartRead(&message_);
  }

  void OnDone(const grpc::Status& status) override {
    result_.outcome.ended = now_();
    result_.outcome.ending = EndingOf(status);
    if (!status.ok() && result_.outcome.ending != Ending::kCancelled) {
      result_.error = absl::StrCat(CodeName(status.error_code()), ": ", status.error_message());
    }
    const auto done = std::move(done_);
    CallResult result = std::move(result_);
    delete this;  // `done` may be the last to know of the client
    done(std::move(result));
  }

 private:
  void TakeTokens(int64_t tokens, double at) {
    Outcome& outcome = result_.outcome;
    if (tokens == 0) return;
    if (outcome.first < 0) {
      outcome.first = at;
    } else {
      outcome.gaps.push_back(static_cast<float>(at - outcome.last));
    }
    outcome.last = at;
    outcome.output_tokens += tokens;
    if (planned_.cancel_after_tokens > 0 && outcome.output_tokens >= planned_.cancel_after_tokens) {
      context_->TryCancel();
    }
  }

  Ending EndingOf(const grpc::Status& status) const {
    if (status.ok()) return Ending::kCompleted;
    const bool early = result_.outcome.first < 0;
    switch (status.error_code()) {
      case grpc::StatusCode::CANCELLED:
        return planned_.cancel_after_tokens >= 0 ? Ending::kCancelled : Ending::kUnfinished;
      case grpc::StatusCode::DEADLINE_EXCEEDED:
        return Ending::kDeadline;
      case grpc::StatusCode::RESOURCE_EXHAUSTED:
      case grpc::StatusCode::UNAVAILABLE:
        return early ? Ending::kRefused : Ending::kFailed;
      default:
        return Ending::kFailed;
    }
  }

  const PlannedRequest planned_;
  const std::function<double()> now_;
  std::function<void(CallResult)> done_;
  const std::shared_ptr<grpc::ClientContext> context_ = std::make_shared<grpc::ClientContext>();
  v1::GenerateRequest request_;
  v1::GenerateStreamResponse message_;
  CallResult result_;
};

v1::GenerateRequest RequestOf(const Workload& workload, const PlannedRequest& planned,
                              const RunOptions& run) {
  v1::GenerateRequest request;
  const std::vector<uint32_t> ids = workload.PromptOf(planned);
  request.mutable_token_ids()->mutable_ids()->Add(ids.begin(), ids.end());
  const auto& variants = workload.options().variants;
  if (!variants.empty()) request.set_variant(variants[static_cast<size_t>(planned.variant)].name);
  request.mutable_sampling()->set_max_tokens(static_cast<uint32_t>(planned.output_tokens));
  request.mutable_sampling()->set_ignore_eos(true);
  request.mutable_sampling()->set_temperature(run.temperature);
  request.mutable_sampling()->set_seed(planned.number);
  return request;
}

class GrpcClient final : public Client {
 public:
  explicit GrpcClient(const ServerOptions& options) : api_key_(options.api_key) {
    for (int i = 0; i < options.channels; ++i) {
      stubs_.push_back(v1::Inference::NewStub(Dial(options)));
    }
  }

  absl::Status AskForModel(const ServerOptions& options) {
    const auto stub = v1::Models::NewStub(Dial(options));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kConnectTimeout);
    context.set_wait_for_ready(true);
    AddKey(api_key_, &context);
    v1::Model model;
    const grpc::Status status = stub->GetModel(&context, v1::GetModelRequest(), &model);
    if (!status.ok()) {
      return absl::UnavailableError(absl::StrCat(
          options.address, ": ", CodeName(status.error_code()), ": ", status.error_message()));
    }
    facts_.description = absl::StrCat(model.name(), " (", model.backend(), ")");
    facts_.max_context = model.max_context();
    facts_.vocab = model.vocab_size();
    for (const v1::Variant& variant : model.variants()) facts_.variants.push_back(variant.name());
    return absl::OkStatus();
  }

  const ServerFacts& facts() const override { return facts_; }

  std::function<void()> Start(const Workload& workload, const PlannedRequest& request,
                              const RunOptions& run, double scheduled,
                              const std::function<double()>& now,
                              std::function<void(CallResult)> done) override {
    Call* call = new Call(request, scheduled, now, std::move(done));
    const std::shared_ptr<grpc::ClientContext> context = call->context();
    AddKey(api_key_, context.get());
    const auto& tenants = workload.options().tenants;
    if (!tenants.empty()) {
      context->AddMetadata("x-vernier-tenant", tenants[static_cast<size_t>(request.tenant)].name);
    }
    if (run.deadline_seconds > 0) {
      context->set_deadline(
          std::chrono::system_clock::now() +
          std::chrono::microseconds(static_cast<int64_t>(run.deadline_seconds * 1e6)));
    }
    const size_t stub = next_.fetch_add(1, std::memory_order_relaxed) % stubs_.size();
    call->Start(stubs_[stub].get(), RequestOf(workload, request, run));
    return [context] { context->TryCancel(); };
  }

 private:
  const std::string api_key_;
  ServerFacts facts_;
  std::vector<std::unique_ptr<v1::Inference::Stub>> stubs_;
  std::atomic<size_t> next_{0};
};

}  // namespace

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(const ServerOptions& options) {
  auto client = std::make_unique<GrpcClient>(options);
  if (absl::Status status = client->AskForModel(options); !status.ok()) return status;
  return client;
}

}  // namespace vernier::loadtest
