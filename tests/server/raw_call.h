// A gRPC call of any method with any bytes, and what came back: the client of tests that must see
// codes, trailers and malformed messages.
#pragma once

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace vernier::testing {

struct RawOutcome {
  int code = -1;
  std::string text;
  std::string details;                // google.rpc.Status, serialized
  std::string pushback;               // the trailer grpc-retry-pushback-ms, "" without
  std::vector<std::string> messages;  // of a unary method: one when it succeeded
};

inline std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  // What the server says is what the test sees.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

inline std::string BytesOf(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (!buffer.Dump(&slices).ok()) return bytes;
  for (const grpc::Slice& slice : slices) {
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return bytes;
}

// Sends `bytes` as the one message of `method` ("/vernier.v1.Inference/Generate") and reads all
// that comes. `context` is the caller's, so that another thread may cancel: TryCancel still holds
// the context's lock when the call has already ended.
inline RawOutcome RawCall(grpc::ClientContext* context,
                          const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                          const std::string& bytes) {
  grpc::GenericStub stub(channel);
  grpc::CompletionQueue queue;
  const auto wait = [&] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  auto call = stub.PrepareCall(context, method, &queue);
  call->StartCall(nullptr);
  bool going = wait();
  if (going) {
    const grpc::Slice slice(bytes);
    // A server that answers before it has read makes the write fail: the status says why.
    call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
    wait();
  }
  RawOutcome outcome;
  while (going) {
    grpc::ByteBuffer buffer;
    call->Read(&buffer, nullptr);
    going = wait();
    if (going) outcome.messages.push_back(BytesOf(buffer));
  }
  grpc::Status status;
  call->Finish(&status, nullptr);
  wait();
  outcome.code = status.error_code();
  outcome.text = status.error_message();
  outcome.details = status.error_details();
  const auto& trailers = context->GetServerTrailingMetadata();
  if (const auto found = trailers.find("grpc-retry-pushback-ms"); found != trailers.end()) {
    outcome.pushback.assign(found->second.data(), found->second.size());
  }
  queue.Shutdown();
  return outcome;
}

// With a context of its own; `prepare` may set deadline and metadata, and must not keep it.
inline RawOutcome RawCall(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                          const std::string& bytes,
                          const std::function<void(grpc::ClientContext*)>& prepare = nullptr) {
  grpc::ClientContext context;
  if (prepare) prepare(&context);
  return RawCall(&context, channel, method, bytes);
}

}  // namespace vernier::testing
