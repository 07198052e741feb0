#include "cli/connection.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iterator>

namespace vernier::cli {
namespace {

constexpr int kMaxReplyBytes = 1 << 30;  // a score with 20 alternatives of a long text
constexpr double kLongestTimeoutSeconds = 1e8;

// Empty for what cannot be read: gRPC then says that it trusts nobody.
std::string Content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::shared_ptr<grpc::ChannelCredentials> Credentials(const CommandLine& command) {
  if (command.ca.empty()) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = Content(command.ca);
  if (!command.certificate.empty()) {
    options.pem_cert_chain = Content(command.certificate);
    options.pem_private_key = Content(command.key);
  }
  return grpc::SslCredentials(options);
}

std::shared_ptr<grpc::Channel> Dial(const CommandLine& command) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxReplyBytes);
  arguments.SetMaxSendMessageSize(-1);              // the server says what is too large
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);  // or $http_proxy would get what is for loopback
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  return grpc::CreateCustomChannel(command.server, Credentials(command), arguments);
}

}  // namespace

Connection::Connection(const CommandLine& command)
    : server_(command.server),
      timeout_seconds_(std::min(command.timeout_seconds, kLongestTimeoutSeconds)),
      api_key_(command.api_key),
      routing_key_(command.routing_key),
      channel_(Dial(command)),
      inference_(v1::Inference::NewStub(channel_)),
      evaluation_(v1::Evaluation::NewStub(channel_)),
      models_(v1::Models::NewStub(channel_)),
      control_(v1::ModelControl::NewStub(channel_)),
      experiments_(v1::Experiments::NewStub(channel_)) {}

void Connection::Prepare(grpc::ClientContext* context) const {
  if (!api_key_.empty()) context->AddMetadata("authorization", "Bearer " + api_key_);
  if (!routing_key_.empty()) context->AddMetadata("x-vernier-routing-key", routing_key_);
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
