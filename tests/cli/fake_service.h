// A server whose answers a test sets: real gRPC on a port that the system picks.
#pragma once

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "vernier/v1/evaluation.grpc.pb.h"
#include "vernier/v1/experiments.grpc.pb.h"
#include "vernier/v1/inference.grpc.pb.h"
#include "vernier/v1/models.grpc.pb.h"

namespace vernier::cli {

// Set the answers before a call, read the requests after it.
class FakeInference : public v1::Inference::Service {
 public:
  using Context = grpc::ServerContext;

  grpc::Status Generate(Context*, const v1::GenerateRequest* request,
                        v1::GenerateResponse* reply) override {
    generate = *request;
    *reply = generate_reply;
    return status;
  }
  grpc::Status GenerateStream(Context* context, const v1::GenerateRequest* request,
                              grpc::ServerWriter<v1::GenerateStreamResponse>* writer) override {
    generate = *request;
    generates.push_back(*request);
    const auto key = context->client_metadata().find("x-vernier-routing-key");
    routing_key = key == context->client_metadata().end()
                      ? ""
                      : std::string(key->second.data(), key->second.size());
    for (const auto& message : stream) writer->Write(message);
    while (waits_for_cancel && !context->IsCancelled()) std::this_thread::yield();
    return status;
  }
  grpc::Status Score(Context*, const v1::ScoreRequest* request, v1::ScoreResponse* reply) override {
    scores.push_back(*request);
    if (score_each) {
      *reply = score_each(*request);
    } else {
      *reply = score_reply;
    }
    return status;
  }
  grpc::Status Tokenize(Context*, const v1::TokenizeRequest* request,
                        v1::TokenizeResponse* reply) override {
    for (const char c : request->text()) reply->add_token_ids(static_cast<uint8_t>(c));
    return grpc::Status::OK;
  }

  grpc::Status Feedback(Context*, grpc::ServerReader<v1::FeedbackEvent>* reader,
                        v1::FeedbackResponse* reply) override {
    for (v1::FeedbackEvent event; reader->Read(&event);) feedback.push_back(event);
    *reply = feedback_reply;
    return status;
  }

  grpc::Status status;
  std::vector<v1::FeedbackEvent> feedback;
  v1::FeedbackResponse feedback_reply;
  std::string routing_key;  // of the last stream
  v1::GenerateRequest generate;
  std::vector<v1::GenerateRequest> generates;
  v1::GenerateResponse generate_reply;
  std::vector<v1::GenerateStreamResponse> stream;
  bool waits_for_cancel = false;
  std::vector<v1::ScoreRequest> scores;
  v1::ScoreResponse score_reply;
  std::function<v1::ScoreResponse(const v1::ScoreRequest&)> score_each;
};

class FakeEvaluation : public v1::Evaluation::Service {
 public:
  grpc::Status CompareStream(grpc::ServerContext*, const v1::CompareRequest* request,
                             grpc::ServerWriter<v1::CompareStreamResponse>* writer) override {
    compare = *request;
    v1::CompareStreamResponse message;
    message.mutable_delta()->set_variant("fp16");
    message.mutable_delta()->mutable_delta()->add_token_ids(1);
    writer->Write(message);
    if (summary.results_size() > 0) {
      *message.mutable_summary() = summary;
      writer->Write(message);
    }
    return status;
  }

  grpc::Status status;
  v1::CompareRequest compare;
  v1::CompareResponse summary;
};

class FakeModels : public v1::Models::Service {
 public:
  grpc::Status ListModels(grpc::ServerContext*, const v1::ListModelsRequest*,
                          v1::ListModelsResponse* reply) override {
    *reply->add_models() = model;
    return status;
  }
  grpc::Status GetModel(grpc::ServerContext*, const v1::GetModelRequest*,
                        v1::Model* reply) override {
    *reply = model;
    return status;
  }

  grpc::Status status;
  v1::Model model;
};

class FakeExperiments : public v1::Experiments::Service {
 public:
  using Context = grpc::ServerContext;

  grpc::Status Put(Context*, const v1::PutExperimentRequest* request,
                   v1::Experiment* reply) override {
    put = *request;
    *reply = request->experiment();
    reply->set_version(request->experiment().version() + 1);
    reply->set_state(v1::Experiment::DRAFT);
    return status;
  }
  grpc::Status Get(Context*, const v1::GetExperimentRequest* request,
                   v1::ExperimentReport* reply) override {
    get = *request;
    *reply = reports[std::min(looks++, reports.size() - 1)];
    return status;
  }
  grpc::Status List(Context*, const v1::ListExperimentsRequest*,
                    v1::ListExperimentsResponse* reply) override {
    *reply = list;
    return status;
  }
  grpc::Status Control(Context*, const v1::ControlExperimentRequest* request,
                       v1::Experiment* reply) override {
    control = *request;
    reply->set_id(request->id());
    reply->set_state(v1::Experiment::RUNNING);
    return status;
  }
  grpc::Status ExplainAssignment(Context*, const v1::ExplainAssignmentRequest* request,
                                 v1::ExplainAssignmentResponse* reply) override {
    explain = *request;
    *reply = explanation;
    return status;
  }

  grpc::Status status;
  v1::PutExperimentRequest put;
  v1::GetExperimentRequest get;
  std::vector<v1::ExperimentReport> reports{1};  // one a look; the last one stays
  size_t looks = 0;
  v1::ListExperimentsResponse list;
  v1::ControlExperimentRequest control;
  v1::ExplainAssignmentRequest explain;
  v1::ExplainAssignmentResponse explanation;
};

// What a command printed, and how it ended.
struct Ran {
  int exit_code = 0;
  std::string out;
  std::string err;
};

struct RunOptions {
  std::string input;
  bool terminal = false;                               // all three streams
  std::function<void(const std::string&)> on_flush{};  // given all of stdout so far
};

class WatchedBuffer : public std::stringbuf {
 public:
  explicit WatchedBuffer(std::function<void(const std::string&)> on_flush)
      : on_flush_(std::move(on_flush)) {}

 protected:
  int sync() override {
    if (on_flush_) on_flush_(str());
    return 0;
  }

 private:
  const std::function<void(const std::string&)> on_flush_;
};

inline Ran RunWith(const std::vector<std::string>& arguments, const RunOptions& options = {}) {
  std::vector<const char*> argv = {"vernier"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  std::istringstream in(options.input);
  WatchedBuffer buffer(options.on_flush);
  std::ostream out(&buffer);
  std::ostringstream err;
  Terminal terminal;
  terminal.in = &in;
  terminal.out = &out;
  terminal.err = &err;
  terminal.in_is_terminal = terminal.out_is_terminal = terminal.err_is_terminal = options.terminal;
  terminal.canvas.columns = 100;
  Ran ran;
  ran.exit_code = Run(static_cast<int>(argv.size()), argv.data(), terminal);
  ran.out = buffer.str();
  ran.err = err.str();
  return ran;
}

class FakeServer {
 public:
  FakeServer() {
    models.model.set_name("tiny");
    models.model.set_has_tokenizer(true);
    models.model.set_has_chat_template(true);
    for (const char* name : {"fp16", "nf4"}) models.model.add_variants()->set_name(name);
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&inference);
    builder.RegisterService(&evaluation);
    builder.RegisterService(&models);
    builder.RegisterService(&experiments);
    server_ = builder.BuildAndStart();
  }
  ~FakeServer() { server_->Shutdown(); }

  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }
  void Stop() { server_->Shutdown(); }

  Ran Run(std::vector<std::string> arguments, const RunOptions& options = {}) const {
    arguments.insert(arguments.begin(), {"--server", address()});
    return RunWith(arguments, options);
  }

  FakeInference inference;
  FakeEvaluation evaluation;
  FakeModels models;
  FakeExperiments experiments;

 private:
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace vernier::cli
