// Any bytes as a request, its first byte choosing the method: refused within the contract, or
// turned into something that keeps every limit.
#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/status_payload.h"
#include "google/protobuf/stubs/logging.h"
#include "kernels/base/check.h"
#include "server/convert.h"
#include "server/parse.h"
#include "server/wire_status.h"
#include "tests/testing/fake_engine.h"

namespace vernier {
namespace {

constexpr int64_t kContext = 64;

void CheckRefusal(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      VERNIER_CHECK(FieldViolationOf(status).has_value());
      break;
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kResourceExhausted:
      break;
    default:
      VERNIER_CHECK(false);
  }
  VERNIER_CHECK(ToWire(status).code == static_cast<int>(status.code()));
}

void CheckPrompt(const PromptInput& input, const Model& model, GenerateSpec* spec) {
  auto prompt = PromptTokens(input, model, Tokenizer::Begin::kAsConfigured);
  if (!prompt.ok()) return CheckRefusal(prompt.status());
  VERNIER_CHECK(static_cast<int64_t>(prompt->size()) <= input.TokensBound());
  if (spec == nullptr) return;
  const int64_t prompt_bound = PromptBound(*spec, kContext);
  const int64_t max_tokens_bound = MaxTokensBound(*spec, kContext);
  const absl::Status status = CompleteSpec(spec, &*prompt, model, kContext);
  if (!status.ok()) return CheckRefusal(status);
  // What was reserved before the tokens were known is enough.
  VERNIER_CHECK(static_cast<int64_t>(prompt->size()) <= prompt_bound);
  VERNIER_CHECK(spec->sampling.max_tokens <= max_tokens_bound);
  VERNIER_CHECK(static_cast<int64_t>(prompt->size()) + spec->sampling.max_tokens <= kContext);
  VERNIER_CHECK(spec->request_id.size() <= kMaxRequestIdBytes);
}

template <typename Request, typename Convert, typename Use>
void Try(const std::string& bytes, const Convert& convert, const Use& use) {
  Request request;
  if (absl::Status status = ParseMessage(bytes, 1 << 16, &request); !status.ok()) {
    return CheckRefusal(status);
  }
  auto converted = convert(request);
  if (!converted.ok()) return CheckRefusal(converted.status());
  use(*converted);
}

void TryMethod(uint8_t method, const std::string& bytes, const Model& model) {
  switch (method % 4) {
    case 0:
      return Try<v1::GenerateRequest>(
          bytes, [&](const auto& request) { return ConvertGenerate(request, model, kContext); },
          [&](GenerateSpec& spec) { CheckPrompt(spec.input, model, &spec); });
    case 1:
      return Try<v1::ScoreRequest>(
          bytes, [&](const auto& request) { return ConvertScore(request, model, kContext); },
          [&](ScoreSpec& spec) { CheckPrompt(spec.input, model, nullptr); });
    case 2:
      return Try<v1::CompareRequest>(
          bytes, [&](const auto& request) { return ConvertCompare(request, model, kContext); },
          [&](CompareSpec& spec) { CheckPrompt(spec.base.input, model, &spec.base); });
    default:
      return Try<v1::TokenizeRequest>(
          bytes, [&](const auto& request) { return ConvertTokenize(request, model); },
          [&](PromptInput& input) { CheckPrompt(input, model, nullptr); });
  }
}

}  // namespace
}  // namespace vernier

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto* const model = [] {
    google::protobuf::SetLogHandler(nullptr);
    return vernier::testing::FakeModel(true).release();
  }();
  if (size == 0) return 0;
  vernier::TryMethod(data[0], {reinterpret_cast<const char*>(data) + 1, size - 1}, *model);
  return 0;
}
