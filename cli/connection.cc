#include "cli/connection.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <chrono>

namespace vernier::cli {
namespace {

constexpr int kMaxReplyBytes = 1 << 30;  // a score with 20 alternatives of a long text
constexpr double kLongestTimeoutSeconds = 1e8;

std::shared_ptr<grpc::Channel> Dial(const std::string& server) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxReplyBytes);
  arguments.SetMaxSendMessageSize(-1);              // the server says what is too large
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);  // or $http_proxy would get what is for loopback
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  return grpc::CreateCustomChannel(server, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

Connection::Connection(const std::string& server, double timeout_seconds)
    : server_(server),
      timeout_seconds_(std::min(timeout_seconds, kLongestTimeoutSeconds)),
      channel_(Dial(server)),
      inference_(v1::Inference::NewStub(channel_)),
      evaluation_(v1::Evaluation::NewStub(channel_)),
      models_(v1::Models::NewStub(channel_)) {}

void Connection::Prepare(grpc::ClientContext* context) const {
  if (timeout_seconds_ <= 0) return;
  context->set_deadline(std::chrono::system_clock::now() +
                        std::chrono::milliseconds(static_cast<int64_t>(timeout_seconds_ * 1000)));
}

CommandResult Connection::Failure(const grpc::Status& status) const {
  return Explain(status, {server_, channel_->GetState(false) == GRPC_CHANNEL_READY});
}

grpc::Status Connection::GetModel(v1::Model* model) {
  grpc::ClientContext context;
  Prepare(&context);
  return models_->GetModel(&context, v1::GetModelRequest(), model);
}

}  // namespace vernier::cli
