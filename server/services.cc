#include "server/services.h"

#include <grpcpp/grpcpp.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/status_payload.h"
#include "server/compare.h"
#include "server/experiments/registry.h"
#include "server/generate.h"
#include "server/parse.h"
#include "server/reactors.h"
#include "server/score.h"
#include "vernier/v1/evaluation.grpc.pb.h"
#include "vernier/v1/inference.grpc.pb.h"
#include "vernier/v1/models.grpc.pb.h"

namespace vernier {
namespace {

using grpc::ByteBuffer;
using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;
using WriteReactor = grpc::ServerWriteReactor<ByteBuffer>;

// A token may stand for many bytes, and a request for many tokens.
constexpr size_t kMaxDetokenizedBytes = 4 << 20;

MakeCall GenerateMaker(GenerateCall::Shape shape) {
  return [shape](const Served& served, const CallContext& context, Responder* responder,
                 const std::string& bytes) -> absl::StatusOr<std::shared_ptr<EngineCall>> {
    auto message = ParseAs<v1::GenerateRequest>(bytes);
    if (!message.ok()) return message.status();
    auto spec = ConvertGenerate(*message, *served.model, served.engine->max_context());
    if (!spec.ok()) return spec.status();
    return std::make_shared<GenerateCall>(&served, context, responder, *std::move(spec), shape);
  };
}

MakeCall CompareMaker(CompareCall::Shape shape) {
  return [shape](const Served& served, const CallContext& context, Responder* responder,
                 const std::string& bytes) -> absl::StatusOr<std::shared_ptr<EngineCall>> {
    auto message = ParseAs<v1::CompareRequest>(bytes);
    if (!message.ok()) return message.status();
    auto spec = ConvertCompare(*message, *served.model, served.engine->max_context());
    if (!spec.ok()) return spec.status();
    return std::make_shared<CompareCall>(&served, context, responder, *std::move(spec), shape);
  };
}

absl::StatusOr<std::shared_ptr<EngineCall>> MakeScore(const Served& served,
                                                      const CallContext& context,
                                                      Responder* responder,
                                                      const std::string& bytes) {
  auto message = ParseAs<v1::ScoreRequest>(bytes);
  if (!message.ok()) return message.status();
  auto spec = ConvertScore(*message, *served.model, served.engine->max_context());
  if (!spec.ok()) return spec.status();
  return std::make_shared<ScoreCall>(&served, context, responder, *std::move(spec),
                                     PrintableLabel(message->request_id()));
}

absl::Status AnswerTokenize(const Served& served, const std::string& bytes, ByteBuffer* reply) {
  auto message = ParseAs<v1::TokenizeRequest>(bytes);
  if (!message.ok()) return message.status();
  auto input = ConvertTokenize(*message, *served.model);
  if (!input.ok()) return input.status();
  const bool add_special = !message->has_add_special_tokens() || message->add_special_tokens();
  const auto begin = add_special ? Tokenizer::Begin::kAsConfigured : Tokenizer::Begin::kNever;
  const Tokenizer& tokenizer = *served.model->tokenizer;
  auto ids = input->kind == PromptInput::Kind::kText && message->parse_special()
                 ? tokenizer.Encode(input->text, Tokenizer::Special::kRecognise, begin)
                 : PromptTokens(*input, *served.model, begin);
  if (!ids.ok()) return ids.status();
  v1::TokenizeResponse out;
  for (const int32_t id : *ids) {
    out.add_token_ids(id);
    out.add_tokens(tokenizer.TokenBytes(id, /*special_as_text=*/true));
  }
  *reply = BufferOf(out);
  return absl::OkStatus();
}

absl::Status AnswerDetokenize(const Served& served, const std::string& bytes, ByteBuffer* reply) {
  auto message = ParseAs<v1::DetokenizeRequest>(bytes);
  if (!message.ok()) return message.status();
  const Model& model = *served.model;
  if (auto variant = ResolveVariant(message->model(), "", model); !variant.ok()) {
    return variant.status();
  }
  if (model.tokenizer == nullptr) {
    return absl::FailedPreconditionError("this model is served for token ids alone");
  }
  const bool special = !message->has_special_tokens_as_text() || message->special_tokens_as_text();
  Detokenizer detokenizer(model.tokenizer.get(), {}, false, special);
  v1::DetokenizeResponse out;
  for (const uint32_t id : message->token_ids()) {
    if (id >= static_cast<uint32_t>(model.tokenizer->vocab_size())) {
      return InvalidField({"token_ids", absl::StrCat(id),
                           absl::StrCat("[0, ", model.tokenizer->vocab_size(), ")")});
    }
    out.mutable_text()->append(detokenizer.Push(static_cast<int32_t>(id)));
    if (out.text().size() > kMaxDetokenizedBytes) {
      return InvalidField({"token_ids", "more text than is given back at once",
                           absl::StrCat("at most ", kMaxDetokenizedBytes, " bytes of text")});
    }
  }
  out.mutable_text()->append(detokenizer.Flush());
  *reply = BufferOf(out);
  return absl::OkStatus();
}

// What a Feedback stream says, one event at a time; what cannot be taken is named in the reply.
class FeedbackTaker : public StreamTaker {
 public:
  explicit FeedbackTaker(Experiments* experiments) : experiments_(experiments) {}
  absl::Status Take(const std::string& bytes) override {
    auto event = ParseAs<v1::FeedbackEvent>(bytes);
    if (!event.ok()) return event.status();
    experiments_->TakeFeedback(*event, &reply_);
    return absl::OkStatus();
  }
  absl::StatusOr<ByteBuffer> Reply() override { return BufferOf(reply_); }

 private:
  Experiments* const experiments_;
  v1::FeedbackResponse reply_;
};

absl::StatusOr<std::unique_ptr<StreamTaker>> MakeFeedback(const Served& served) {
  if (served.experiments == nullptr) return NoExperiments();
  return std::make_unique<FeedbackTaker>(served.experiments);
}

using v1::Evaluation;
using v1::Inference;
using v1::Models;
using InferenceBase = Inference::WithRawCallbackMethod_Generate<
    Inference::WithRawCallbackMethod_GenerateStream<Inference::WithRawCallbackMethod_Score<
        Inference::WithRawCallbackMethod_Tokenize<Inference::WithRawCallbackMethod_Detokenize<
            Inference::WithRawCallbackMethod_Feedback<Inference::Service>>>>>>;
using EvaluationBase = Evaluation::WithRawCallbackMethod_Compare<
    Evaluation::WithRawCallbackMethod_CompareStream<Evaluation::Service>>;
using ModelsBase = Models::WithRawCallbackMethod_ListModels<
    Models::WithRawCallbackMethod_GetModel<Models::Service>>;

class InferenceService : public InferenceBase {
 public:
  explicit InferenceService(ServerState* state) : state_(state) {}

  ServerUnaryReactor* Generate(CallbackServerContext* context, const ByteBuffer* request,
                               ByteBuffer* reply) override {
    return StartUnary(state_, Method::kGenerate, context, request, reply,
                      GenerateMaker(GenerateCall::Shape::kUnary));
  }
  WriteReactor* GenerateStream(CallbackServerContext* context, const ByteBuffer* request) override {
    return StartStream(state_, Method::kGenerateStream, context, request,
                       GenerateMaker(GenerateCall::Shape::kStream));
  }
  ServerUnaryReactor* Score(CallbackServerContext* context, const ByteBuffer* request,
                            ByteBuffer* reply) override {
    return StartUnary(state_, Method::kScore, context, request, reply, MakeScore);
  }
  ServerUnaryReactor* Tokenize(CallbackServerContext* context, const ByteBuffer* request,
                               ByteBuffer* reply) override {
    return StartPlain(state_, Method::kTokenize, Work::kLong, context, request, reply,
                      AnswerTokenize);
  }
  ServerUnaryReactor* Detokenize(CallbackServerContext* context, const ByteBuffer* request,
                                 ByteBuffer* reply) override {
    return StartPlain(state_, Method::kDetokenize, Work::kLong, context, request, reply,
                      AnswerDetokenize);
  }
  grpc::ServerReadReactor<ByteBuffer>* Feedback(CallbackServerContext* context,
                                                ByteBuffer* reply) override {
    return StartReading(state_, Method::kFeedback, context, reply, MakeFeedback);
  }

 private:
  ServerState* const state_;
};

class EvaluationService : public EvaluationBase {
 public:
  explicit EvaluationService(ServerState* state) : state_(state) {}

  ServerUnaryReactor* Compare(CallbackServerContext* context, const ByteBuffer* request,
                              ByteBuffer* reply) override {
    return StartUnary(state_, Method::kCompare, context, request, reply,
                      CompareMaker(CompareCall::Shape::kUnary));
  }
  WriteReactor* CompareStream(CallbackServerContext* context, const ByteBuffer* request) override {
    return StartStream(state_, Method::kCompareStream, context, request,
                       CompareMaker(CompareCall::Shape::kStream));
  }

 private:
  ServerState* const state_;
};

class ModelsService : public ModelsBase {
 public:
  explicit ModelsService(ServerState* state) : state_(state) {}

  ServerUnaryReactor* ListModels(CallbackServerContext* context, const ByteBuffer* request,
                                 ByteBuffer* reply) override {
    return StartPlain(state_, Method::kListModels, Work::kShort, context, request, reply,
                      [state = state_](const Served&, const std::string& bytes, ByteBuffer* out) {
                        auto message = ParseAs<v1::ListModelsRequest>(bytes);
                        if (!message.ok()) return message.status();
                        v1::ListModelsResponse models;
                        *models.add_models() = state->Describe();
                        *out = BufferOf(models);
                        return absl::OkStatus();
                      });
  }
  ServerUnaryReactor* GetModel(CallbackServerContext* context, const ByteBuffer* request,
                               ByteBuffer* reply) override {
    return StartPlain(
        state_, Method::kGetModel, Work::kShort, context, request, reply,
        [state = state_](const Served& served, const std::string& bytes, ByteBuffer* out) {
          auto message = ParseAs<v1::GetModelRequest>(bytes);
          if (!message.ok()) return message.status();
          auto found = ResolveVariant(message->model(), "", *served.model);
          if (!found.ok()) return found.status();
          *out = BufferOf(state->Describe());
          return absl::OkStatus();
        });
  }

 private:
  ServerState* const state_;
};

}  // namespace

std::vector<std::unique_ptr<grpc::Service>> MakeServices(ServerState* state) {
  std::vector<std::unique_ptr<grpc::Service>> services;
  services.push_back(std::make_unique<InferenceService>(state));
  services.push_back(std::make_unique<EvaluationService>(state));
  services.push_back(std::make_unique<ModelsService>(state));
  return services;
}

}  // namespace vernier
