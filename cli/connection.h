// The one channel of a command, with the stubs of the services.
//
// Used by one thread; a call in flight may be cancelled from another.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <memory>
#include <string>
#include <utility>

#include "cli/call_error.h"
#include "cli/options.h"
#include "vernier/v1/evaluation.grpc.pb.h"
#include "vernier/v1/experiments.grpc.pb.h"
#include "vernier/v1/inference.grpc.pb.h"
#include "vernier/v1/model_control.grpc.pb.h"
#include "vernier/v1/models.grpc.pb.h"

namespace vernier::cli {

class Connection {
 public:
  // Of the command's address, files, key and timeout. Nothing is dialled before the first call.
  explicit Connection(const CommandLine& command);

  v1::Inference::Stub* inference() { return inference_.get(); }
  v1::Evaluation::Stub* evaluation() { return evaluation_.get(); }
  v1::Models::Stub* models() { return models_.get(); }
  v1::ModelControl::Stub* control() { return control_.get(); }
  v1::Experiments::Stub* experiments() { return experiments_.get(); }

  // Sets the deadline of a call, the key, and who is asking.
  void Prepare(grpc::ClientContext* context) const;
  // Instead of the command's. Printable ASCII.
  void set_routing_key(std::string key) { routing_key_ = std::move(key); }
  CommandResult Failure(const grpc::Status& status) const;

  // Of the model that is served.
  grpc::Status GetModel(v1::Model* model);

 private:
  const std::string server_;
  const double timeout_seconds_;
  const std::string api_key_;
  std::string routing_key_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::Inference::Stub> inference_;
  const std::unique_ptr<v1::Evaluation::Stub> evaluation_;
  const std::unique_ptr<v1::Models::Stub> models_;
  const std::unique_ptr<v1::ModelControl::Stub> control_;
  const std::unique_ptr<v1::Experiments::Stub> experiments_;
};

}  // namespace vernier::cli
