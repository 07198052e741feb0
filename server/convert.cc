#include "server/convert.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/sampling_limits.h"
#include "engine/status_payload.h"
#include "server/experiments/definition.h"

namespace vernier {
namespace {

// Tokens that a template adds around a message, generously: "<|im_start|>", role, newlines, end.
constexpr int64_t kTemplateTokensPerMessage = 64;

// Where nothing bounds a prompt: more than any context has.
constexpr int64_t kUnboundedTokens = int64_t{1} << 40;

bool HasMoreThanContent(const PromptInput& input) {
  return !input.template_inputs.tools.empty() || !input.template_inputs.arguments.empty() ||
         std::any_of(input.messages.begin(), input.messages.end(), [](const ChatMessage& m) {
           return !m.name.empty() || !m.tool_calls.empty() || !m.tool_call_id.empty() ||
                  !m.reasoning_content.empty();
         });
}

absl::Status NeedsTokenizer(const Model& model) {
  return absl::FailedPreconditionError(
      absl::StrCat("this model is served for token ids alone: ", model.no_tokenizer_reason));
}

absl::Status NeedsChatTemplate(const Model& model) {
  return absl::FailedPreconditionError(
      absl::StrCat("this model has no chat template that is rendered: ", model.no_chat_reason));
}

absl::StatusOr<std::vector<int32_t>> ConvertIds(const std::string& field, const v1::TokenIds& ids,
                                                const Model& model, int64_t max_ids) {
  if (ids.ids_size() == 0) return InvalidField({field, "empty", "at least 1 token"});
  if (ids.ids_size() > max_ids) {
    return InvalidField(
        {field, absl::StrCat(ids.ids_size(), " tokens"), absl::StrCat(max_ids, " tokens")});
  }
  std::vector<int32_t> out;
  out.reserve(ids.ids_size());
  for (const uint32_t id : ids.ids()) {
    if (id >= static_cast<uint64_t>(model.config.vocab)) {
      return InvalidField({field, absl::StrCat(id), absl::StrCat("[0, ", model.config.vocab, ")")});
    }
    out.push_back(static_cast<int32_t>(id));
  }
  return out;
}

absl::StatusOr<PromptInput> ConvertText(const std::string& field, const std::string& text,
                                        const Model& model) {
  if (model.tokenizer == nullptr) return NeedsTokenizer(model);
  if (text.empty()) return InvalidField({field, "empty", "at least 1 byte of UTF-8"});
  PromptInput input;
  input.kind = PromptInput::Kind::kText;
  input.text = text;
  return input;
}

ChatMessage ConvertMessage(const v1::ChatMessage& message) {
  ChatMessage out{message.role(), message.content()};
  out.name = message.name();
  out.tool_call_id = message.tool_call_id();
  out.reasoning_content = message.reasoning_content();
  for (const v1::ToolCall& call : message.tool_calls()) {
    out.tool_calls.push_back({call.id(), call.name(), call.arguments()});
  }
  return out;
}

absl::StatusOr<TemplateInputs> ConvertTemplateInputs(const v1::Chat& chat) {
  TemplateInputs inputs;
  inputs.tools = chat.tools();
  for (const auto& [name, value] : chat.template_args()) {
    switch (value.value_case()) {
      case v1::TemplateValue::kBoolValue:
        inputs.arguments.emplace_back(name, value.bool_value());
        break;
      case v1::TemplateValue::kIntValue:
        inputs.arguments.emplace_back(name, static_cast<int64_t>(value.int_value()));
        break;
      case v1::TemplateValue::kDoubleValue:
        inputs.arguments.emplace_back(name, value.double_value());
        break;
      case v1::TemplateValue::kStringValue:
        inputs.arguments.emplace_back(name, value.string_value());
        break;
      default:
        return InvalidField({"chat.template_args", "a value of no type", "one of the types"});
    }
  }
  return inputs;
}

absl::StatusOr<PromptInput> ConvertChat(const v1::Chat& chat, const Model& model) {
  if (model.tokenizer == nullptr) return NeedsTokenizer(model);
  if (model.chat_template == nullptr) return NeedsChatTemplate(model);
  if (chat.messages_size() < 1 || chat.messages_size() > kMaxChatMessages) {
    return InvalidField({"chat.messages", absl::StrCat(chat.messages_size(), " messages"),
                         absl::StrCat("1 to ", kMaxChatMessages, " messages")});
  }
  PromptInput input;
  input.kind = PromptInput::Kind::kChat;
  input.add_generation_prompt = !chat.has_add_generation_prompt() || chat.add_generation_prompt();
  for (const v1::ChatMessage& message : chat.messages()) {
    if (!IsChatRole(message.role())) {
      return InvalidField({"chat.messages.role", "unknown", kChatRoles});
    }
    input.messages.push_back(ConvertMessage(message));
  }
  auto inputs = ConvertTemplateInputs(chat);
  if (!inputs.ok()) return inputs.status();
  input.template_inputs = *std::move(inputs);
  absl::Status status = CheckTemplateInputs(input.messages, input.template_inputs);
  if (!status.ok()) return status;
  return input;
}

absl::StatusOr<Priority> ConvertPriority(v1::PriorityClass priority) {
  switch (priority) {
    case v1::PRIORITY_CLASS_UNSPECIFIED:
    case v1::PRIORITY_CLASS_NORMAL:
      return Priority::kNormal;
    case v1::PRIORITY_CLASS_LOW:
      return Priority::kLow;
    default:
      return InvalidField({"priority", absl::StrCat(static_cast<int>(priority)), "0, 1 or 2"});
  }
}

// A count as the engine takes it; what does not fit is left to CheckSampling to refuse.
int Clamped(uint32_t value) {
  return static_cast<int>(std::min<uint32_t>(value, std::numeric_limits<int32_t>::max()));
}

absl::Status ConvertStops(const v1::SamplingParams& sampling, GenerateSpec* spec) {
  if (sampling.stop_size() > kMaxStopStrings) {
    return InvalidField({"sampling.stop", absl::StrCat(sampling.stop_size(), " strings"),
                         absl::StrCat("at most ", kMaxStopStrings)});
  }
  for (const std::string& stop : sampling.stop()) {
    if (stop.empty() || stop.size() > kMaxStopStringBytes) {
      return InvalidField({"sampling.stop", absl::StrCat(stop.size(), " bytes"),
                           absl::StrCat("1 to ", kMaxStopStringBytes, " bytes")});
    }
    spec->stops.push_back(stop);
  }
  if (sampling.stop_token_ids_size() > kMaxStopTokenIds) {
    return InvalidField({"sampling.stop_token_ids", absl::StrCat(sampling.stop_token_ids_size()),
                         absl::StrCat("at most ", kMaxStopTokenIds)});
  }
  if (sampling.logit_bias_size() > kMaxLogitBiases) {
    return InvalidField({"sampling.logit_bias", absl::StrCat(sampling.logit_bias_size()),
                         absl::StrCat("at most ", kMaxLogitBiases)});
  }
  for (const uint32_t id : sampling.stop_token_ids()) {
    spec->sampling.stop_token_ids.push_back(Clamped(id));
  }
  for (const auto& [id, bias] : sampling.logit_bias()) {
    spec->sampling.logit_bias.push_back({Clamped(id), bias});
  }
  // A map has no order of its own.
  std::sort(spec->sampling.logit_bias.begin(), spec->sampling.logit_bias.end(),
            [](const LogitBias& a, const LogitBias& b) { return a.id < b.id; });
  return absl::OkStatus();
}

absl::Status ConvertSampling(const v1::SamplingParams& sampling, GenerateSpec* spec) {
  SamplingParams& out = spec->sampling;
  if (sampling.has_max_tokens()) {
    if (sampling.max_tokens() == 0) {
      return InvalidField({"sampling.max_tokens", "0", "at least 1"});
    }
    out.max_tokens = sampling.max_tokens();
  }
  if (sampling.has_min_tokens()) {
    out.min_tokens = sampling.min_tokens();
    if (!sampling.has_max_tokens() && out.min_tokens > 0) {
      return InvalidField(
          {"sampling.min_tokens", absl::StrCat(out.min_tokens), "needs max_tokens beside it"});
    }
  }
  if (sampling.has_temperature()) out.temperature = sampling.temperature();
  if (sampling.has_top_p()) out.top_p = sampling.top_p();
  if (sampling.has_top_k()) out.top_k = Clamped(sampling.top_k());
  if (sampling.has_min_p()) out.min_p = sampling.min_p();
  if (sampling.has_frequency_penalty()) out.frequency_penalty = sampling.frequency_penalty();
  if (sampling.has_presence_penalty()) out.presence_penalty = sampling.presence_penalty();
  if (sampling.has_repetition_penalty()) out.repetition_penalty = sampling.repetition_penalty();
  if (sampling.has_logprobs()) out.logprobs = Clamped(sampling.logprobs());
  if (sampling.has_prompt_logprobs()) out.prompt_logprobs = Clamped(sampling.prompt_logprobs());
  out.ignore_eos = sampling.ignore_eos();
  spec->seed_given = sampling.has_seed();
  out.seed = sampling.has_seed() ? sampling.seed() : DrawSeed();
  spec->include_stop = sampling.include_stop_str_in_output();
  if (sampling.has_n()) {
    if (sampling.n() < 1 || sampling.n() > kMaxSamples) {
      return InvalidField(
          {"sampling.n", absl::StrCat(sampling.n()), absl::StrCat("1 to ", kMaxSamples)});
    }
    spec->samples = static_cast<int>(sampling.n());
  }
  return ConvertStops(sampling, spec);
}

absl::StatusOr<PromptInput> ConvertInput(const v1::GenerateRequest& request, const Model& model,
                                         int64_t max_context) {
  // A prompt that will be cut may be longer than the context, though not without limit.
  const int64_t max_ids = request.has_truncate_prompt_tokens() ? int64_t{1} << 20 : max_context;
  switch (request.input_case()) {
    case v1::GenerateRequest::kPrompt:
      return ConvertText("prompt", request.prompt(), model);
    case v1::GenerateRequest::kTokenIds: {
      auto ids = ConvertIds("token_ids", request.token_ids(), model, max_ids);
      if (!ids.ok()) return ids.status();
      PromptInput input;
      input.kind = PromptInput::Kind::kIds;
      input.ids = *std::move(ids);
      return input;
    }
    case v1::GenerateRequest::kChat:
      return ConvertChat(request.chat(), model);
    default:
      return InvalidField({"prompt", "absent", "one of prompt, token_ids, chat"});
  }
}

}  // namespace

int64_t PromptInput::TokensBound() const {
  int64_t bound = 1;  // BOS
  switch (kind) {
    case Kind::kText:
      return bound + static_cast<int64_t>(text.size());
    case Kind::kIds:
      return static_cast<int64_t>(ids.size());
    case Kind::kChat:
      // How often a template writes tools, calls and arguments, and how it escapes them, is its
      // own.
      if (HasMoreThanContent(*this)) return kUnboundedTokens;
      for (const ChatMessage& message : messages) {
        bound += static_cast<int64_t>(message.content.size()) + kTemplateTokensPerMessage;
      }
      return bound + kTemplateTokensPerMessage;
  }
  return bound;
}

absl::Status CheckName(const std::string& field, absl::string_view name) {
  if (name.empty() || IsName(name)) return absl::OkStatus();
  return InvalidField({field, absl::StrCat(name.size(), " bytes"), "[A-Za-z0-9._-]{0,64}"});
}

uint64_t DrawSeed() {
  std::random_device device;
  return static_cast<uint64_t>(device()) << 32 | device();
}

std::string PrintableLabel(absl::string_view label) {
  std::string out;
  for (const char c : label.substr(0, 4 * kMaxRequestIdBytes)) {
    if (out.size() == kMaxRequestIdBytes) break;
    if (c >= 0x20 && c <= 0x7e) out += c;
  }
  return out;
}

absl::StatusOr<int> ResolveVariant(absl::string_view model_name, absl::string_view variant_name,
                                   const Model& model) {
  absl::string_view from_model;
  if (!model_name.empty() && model_name != model.name) {
    const size_t colon = model_name.rfind(':');
    if (colon == absl::string_view::npos || model_name.substr(0, colon) != model.name) {
      return absl::NotFoundError(absl::StrCat("no such model; served is ", model.name));
    }
    from_model = model_name.substr(colon + 1);
  }
  if (!from_model.empty() && !variant_name.empty() && from_model != variant_name) {
    return InvalidField({"variant", "another than in model", "the variant that model names"});
  }
  const absl::string_view wanted = variant_name.empty() ? from_model : variant_name;
  if (wanted.empty()) return 0;
  const int index = model.FindVariant(wanted);
  if (index >= 0) return index;
  return absl::NotFoundError(
      absl::StrCat("no such variant; served are ",
                   absl::StrJoin(model.variants, ", ",
                                 [](std::string* out, const Variant& v) { out->append(v.name); })));
}

absl::StatusOr<GenerateSpec> ConvertGenerate(const v1::GenerateRequest& request, const Model& model,
                                             int64_t max_context) {
  GenerateSpec spec;
  auto variant = ResolveVariant(request.model(), request.variant(), model);
  if (!variant.ok()) return variant.status();
  spec.variant = *variant;
  spec.variant_named = !request.variant().empty() || absl::StrContains(request.model(), ':');
  auto input = ConvertInput(request, model, max_context);
  if (!input.ok()) return input.status();
  spec.input = *std::move(input);
  if (absl::Status status = ConvertSampling(request.sampling(), &spec); !status.ok()) return status;
  auto priority = ConvertPriority(request.priority());
  if (!priority.ok()) return priority.status();
  spec.priority = *priority;
  if (request.has_time_limit_seconds()) {
    const double seconds = request.time_limit_seconds();
    if (!std::isfinite(seconds) || seconds <= 0) {
      return InvalidField({"time_limit_seconds", absl::StrCat(seconds), "finite and > 0"});
    }
    spec.time_limit = absl::Seconds(seconds);
  }
  if (request.has_truncate_prompt_tokens()) {
    spec.truncate_prompt_tokens = request.truncate_prompt_tokens();
    if (spec.truncate_prompt_tokens < 1) {
      return InvalidField({"truncate_prompt_tokens", "0", "at least 1"});
    }
  }
  if (absl::Status status = CheckName("cache_salt", request.cache_salt()); !status.ok()) {
    return status;
  }
  if (!spec.stops.empty() && model.tokenizer == nullptr) return NeedsTokenizer(model);
  spec.request_id = PrintableLabel(request.request_id());
  spec.cache_salt = request.cache_salt();
  spec.special_as_text = request.special_tokens_as_text();

  // All that can be said without the prompt's tokens; for ids they are known.
  SamplingParams probe = spec.sampling;
  if (probe.max_tokens == 0) probe.max_tokens = 1;
  int64_t least_tokens = 1;
  if (spec.input.kind == PromptInput::Kind::kIds) {
    least_tokens = static_cast<int64_t>(spec.input.ids.size());
    if (spec.truncate_prompt_tokens > 0) {
      least_tokens = std::min(least_tokens, spec.truncate_prompt_tokens);
    }
  }
  if (absl::Status status = CheckSampling(probe, least_tokens, max_context, model.config.vocab);
      !status.ok()) {
    return status;
  }
  return spec;
}

absl::StatusOr<ScoreSpec> ConvertScore(const v1::ScoreRequest& request, const Model& model,
                                       int64_t max_context) {
  ScoreSpec spec;
  auto variant = ResolveVariant(request.model(), request.variant(), model);
  if (!variant.ok()) return variant.status();
  spec.variant = *variant;
  if (request.input_case() == v1::ScoreRequest::kText) {
    auto input = ConvertText("text", request.text(), model);
    if (!input.ok()) return input.status();
    spec.input = *std::move(input);
  } else if (request.input_case() == v1::ScoreRequest::kTokenIds) {
    auto ids = ConvertIds("token_ids", request.token_ids(), model, int64_t{1} << 20);
    if (!ids.ok()) return ids.status();
    spec.input.kind = PromptInput::Kind::kIds;
    spec.input.ids = *std::move(ids);
  } else {
    return InvalidField({"text", "absent", "one of text, token_ids"});
  }
  if (request.logprobs() > kMaxTopLogprobs) {
    return InvalidField(
        {"logprobs", absl::StrCat(request.logprobs()), absl::StrCat("0 to ", kMaxTopLogprobs)});
  }
  spec.top_logprobs = static_cast<int>(request.logprobs());
  if (request.has_window()) {
    spec.window = request.window();
    if (spec.window < 2 || spec.window > max_context) {
      return InvalidField(
          {"window", absl::StrCat(spec.window), absl::StrCat("2 to ", max_context, " tokens")});
    }
  }
  auto priority = ConvertPriority(request.priority());
  if (!priority.ok()) return priority.status();
  spec.priority = *priority;
  return spec;
}

absl::StatusOr<PromptInput> ConvertTokenize(const v1::TokenizeRequest& request,
                                            const Model& model) {
  auto variant = ResolveVariant(request.model(), "", model);
  if (!variant.ok()) return variant.status();
  switch (request.input_case()) {
    case v1::TokenizeRequest::kText:
      return ConvertText("text", request.text(), model);
    case v1::TokenizeRequest::kChat:
      return ConvertChat(request.chat(), model);
    default:
      return InvalidField({"text", "absent", "one of text, chat"});
  }
}

absl::StatusOr<std::vector<int32_t>> PromptTokens(const PromptInput& input, const Model& model,
                                                  Tokenizer::Begin begin) {
  switch (input.kind) {
    case PromptInput::Kind::kIds:
      return input.ids;
    case PromptInput::Kind::kText:
      return model.tokenizer->Encode(input.text, Tokenizer::Special::kAsText, begin);
    case PromptInput::Kind::kChat: {
      auto spans = model.chat_template->Render(input.messages, input.add_generation_prompt,
                                               input.template_inputs);
      if (!spans.ok()) return spans.status();
      return model.tokenizer->EncodeSpans(*spans, Tokenizer::Begin::kNever);
    }
  }
  return absl::InternalError("unknown kind of prompt");
}

absl::Status CompleteSpec(GenerateSpec* spec, std::vector<int32_t>* prompt, const Model& model,
                          int64_t max_context) {
  const int64_t keep = spec->truncate_prompt_tokens;
  if (keep > 0 && static_cast<int64_t>(prompt->size()) > keep) {
    prompt->erase(prompt->begin(), prompt->end() - keep);
  }
  const auto tokens = static_cast<int64_t>(prompt->size());
  if (tokens == 0) return InvalidField({"prompt", "0 tokens", "at least 1 token"});
  if (tokens >= max_context) {
    return InvalidField(
        {"prompt", absl::StrCat(tokens, " tokens"),
         absl::StrCat("at most ", max_context - 1, " tokens before one new token")});
  }
  if (spec->sampling.max_tokens == 0) {
    spec->sampling.max_tokens = std::min(kDefaultMaxTokens, max_context - tokens);
  }
  return CheckSampling(spec->sampling, tokens, max_context, model.config.vocab);
}

int64_t MaxTokensBound(const GenerateSpec& spec, int64_t max_context) {
  const int64_t most = std::max<int64_t>(1, max_context - 1);
  if (spec.sampling.max_tokens > 0) return std::min(spec.sampling.max_tokens, most);
  return std::min(kDefaultMaxTokens, most);
}

int64_t PromptBound(const GenerateSpec& spec, int64_t max_context) {
  int64_t bound = spec.input.TokensBound();
  if (spec.truncate_prompt_tokens > 0) bound = std::min(bound, spec.truncate_prompt_tokens);
  // With the default of max_tokens, tokens go to one or the other, never to both.
  return std::clamp<int64_t>(bound, 1, std::max<int64_t>(1, max_context - 1));
}

}  // namespace vernier
