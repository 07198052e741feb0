#include "engine/text/chat_variables.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/status_payload.h"
#include "engine/text/jinja/from_json.h"

namespace vernier {
namespace {

using jinja::Dict;
using jinja::List;
using jinja::MarkedText;
using jinja::None;
using jinja::Origin;
using jinja::Value;
using Json = nlohmann::ordered_json;

constexpr size_t kMaxToolCalls = 128;    // of a message
constexpr size_t kMaxArgumentName = 64;  // bytes
constexpr int kMaxJsonDepth = 48;        // a message's call lies a few levels below kMaxValueDepth
constexpr int kMaxMembers = 1024;        // of an object: looking for a key looks at every one

// The variables that the server sets.
constexpr std::array<absl::string_view, 6> kReserved = {
    "messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"};

// Parses JSON within limits; what is beyond them is not kept, so that no tree outgrows them.
absl::StatusOr<Json> ParseBounded(const std::string& field, const std::string& text) {
  if (text.size() > kMaxToolBytes) {
    return InvalidField({field, absl::StrCat(text.size(), " bytes"),
                         absl::StrCat("at most ", kMaxToolBytes, " bytes")});
  }
  std::array<int, kMaxJsonDepth + 1> members = {};  // of the open object at each depth
  bool deep = false, wide = false;
  const auto keep = [&](int depth, Json::parse_event_t event, Json&) {
    const bool opens =
        event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start;
    if (depth > kMaxJsonDepth || (opens && depth == kMaxJsonDepth)) {
      deep = true;
      return false;
    }
    if (event == Json::parse_event_t::object_start) members[depth + 1] = 0;
    if (event != Json::parse_event_t::key || ++members[depth] <= kMaxMembers) return true;
    wide = true;
    return false;
  };
  Json json = Json::parse(text, keep, /*allow_exceptions=*/false);
  if (deep) {
    return InvalidField({field, "deeper JSON", absl::StrCat("at most ", kMaxJsonDepth, " levels")});
  }
  if (wide) {
    return InvalidField(
        {field, "a larger object", absl::StrCat("at most ", kMaxMembers, " members an object")});
  }
  if (json.is_discarded()) return InvalidField({field, "not JSON", "JSON text in UTF-8"});
  return json;
}

absl::StatusOr<Value> ContentOf(const std::string& field, const Json& json) {
  absl::StatusOr<Value> value = jinja::FromJson(json, Origin::kContent);
  if (!value.ok()) {
    return InvalidField({field, "not usable", std::string(value.status().message())});
  }
  return value;
}

absl::StatusOr<Value> ToolsValue(const std::string& text) {
  const std::string field = "chat.tools";
  if (text.empty()) return Value(None{});
  const absl::StatusOr<Json> json = ParseBounded(field, text);
  if (!json.ok()) return json.status();
  const bool objects = json->is_array() && std::all_of(json->begin(), json->end(),
                                                       [](const Json& t) { return t.is_object(); });
  if (!objects) return InvalidField({field, "other JSON", "an array of objects"});
  if (json->empty()) return Value(None{});
  return ContentOf(field, *json);
}

void AddContent(absl::string_view key, const std::string& text, Dict* dict) {
  dict->entries.emplace_back(Value::Text(key), Value::Text(MarkedText(text, Origin::kContent)));
}

void AddValue(absl::string_view key, Value value, Dict* dict) {
  dict->depth = std::max(dict->depth, 1 + jinja::DepthOf(value));
  dict->entries.emplace_back(Value::Text(key), std::move(value));
}

// {id, type, function: {name, arguments}}, with arguments a mapping, as transformers' templates
// expect.
absl::StatusOr<Value> CallValue(const std::string& field, const ToolCall& call) {
  if (call.name.empty()) return InvalidField({field + ".name", "empty", "at least 1 byte"});
  const std::string arguments_field = field + ".arguments";
  const absl::StatusOr<Json> json =
      ParseBounded(arguments_field, call.arguments.empty() ? "{}" : call.arguments);
  if (!json.ok()) return json.status();
  if (!json->is_object()) return InvalidField({arguments_field, "other JSON", "a JSON object"});
  absl::StatusOr<Value> arguments = ContentOf(arguments_field, *json);
  if (!arguments.ok()) return arguments;
  Dict function;
  AddContent("name", call.name, &function);
  AddValue("arguments", *std::move(arguments), &function);
  Dict dict;
  if (!call.id.empty()) AddContent("id", call.id, &dict);
  dict.entries.emplace_back(Value::Text("type"), Value::Text("function"));
  AddValue("function", Value(std::make_shared<const Dict>(std::move(function))), &dict);
  return Value(std::make_shared<const Dict>(std::move(dict)));
}

absl::StatusOr<Value> CallsValue(const std::string& field, const std::vector<ToolCall>& given) {
  if (given.size() > kMaxToolCalls) {
    return InvalidField(
        {field, absl::StrCat(given.size(), " calls"), absl::StrCat("at most ", kMaxToolCalls)});
  }
  List calls;
  for (size_t i = 0; i < given.size(); ++i) {
    absl::StatusOr<Value> call = CallValue(absl::StrCat(field, "[", i, "]"), given[i]);
    if (!call.ok()) return call;
    calls.depth = std::max(calls.depth, 1 + jinja::DepthOf(*call));
    calls.items.push_back(*std::move(call));
  }
  return Value(std::make_shared<const List>(std::move(calls)));
}

std::string CallsField(size_t message) {
  return absl::StrCat("chat.messages[", message, "].tool_calls");
}

absl::StatusOr<Value> MessageValue(const std::string& calls_field, const ChatMessage& message) {
  Dict dict;
  // A checked role is one of four words, and templates build special tokens of it
  // ('<|' + role + '|>').
  dict.entries.emplace_back(Value::Text("role"), Value::Text(message.role));
  AddContent("content", message.content, &dict);
  if (!message.name.empty()) AddContent("name", message.name, &dict);
  if (!message.tool_call_id.empty()) AddContent("tool_call_id", message.tool_call_id, &dict);
  if (!message.reasoning_content.empty()) {
    AddContent("reasoning_content", message.reasoning_content, &dict);
  }
  if (!message.tool_calls.empty()) {
    absl::StatusOr<Value> calls = CallsValue(calls_field, message.tool_calls);
    if (!calls.ok()) return calls;
    AddValue("tool_calls", *std::move(calls), &dict);
  }
  return Value(std::make_shared<const Dict>(std::move(dict)));
}

bool IsName(absl::string_view name) {
  if (name.empty() || name.size() > kMaxArgumentName || absl::ascii_isdigit(name[0])) return false;
  return std::all_of(name.begin(), name.end(),
                     [](char c) { return absl::ascii_isalnum(c) || c == '_'; });
}

absl::Status AddArguments(const TemplateInputs& inputs, jinja::Variables* variables) {
  const std::string field = "chat.template_args";
  if (inputs.arguments.size() > kMaxTemplateArguments) {
    return InvalidField({field, absl::StrCat(inputs.arguments.size(), " arguments"),
                         absl::StrCat("at most ", kMaxTemplateArguments)});
  }
  std::set<absl::string_view> names(kReserved.begin(), kReserved.end());
  for (const auto& [name, argument] : inputs.arguments) {
    if (!IsName(name)) return InvalidField({field, "another name", "[A-Za-z_][A-Za-z0-9_]{0,63}"});
    if (!names.insert(name).second) {
      return InvalidField({field, name, "a name that is not given otherwise"});
    }
    if (const auto* number = std::get_if<double>(&argument);
        number != nullptr && !std::isfinite(*number)) {
      return InvalidField({absl::StrCat(field, ".", name), absl::StrCat(*number), "finite"});
    }
    const auto* text = std::get_if<std::string>(&argument);
    if (text != nullptr) {
      variables->emplace_back(name, Value::Text(MarkedText(*text, Origin::kContent)));
    } else if (const auto* flag = std::get_if<bool>(&argument)) {
      variables->emplace_back(name, Value(*flag));
    } else if (const auto* whole = std::get_if<int64_t>(&argument)) {
      variables->emplace_back(name, Value(*whole));
    } else {
      variables->emplace_back(name, Value(std::get<double>(argument)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<jinja::Variables> ChatVariables(std::span<const ChatMessage> messages,
                                               const TemplateInputs& inputs) {
  List list;
  for (size_t i = 0; i < messages.size(); ++i) {
    absl::StatusOr<Value> message = MessageValue(CallsField(i), messages[i]);
    if (!message.ok()) return message.status();
    list.depth = std::max(list.depth, 1 + jinja::DepthOf(*message));
    list.items.push_back(*std::move(message));
  }
  absl::StatusOr<Value> tools = ToolsValue(inputs.tools);
  if (!tools.ok()) return tools.status();
  jinja::Variables variables = {{"messages", Value(std::make_shared<const List>(std::move(list)))},
                                {"tools", *std::move(tools)}};
  if (absl::Status status = AddArguments(inputs, &variables); !status.ok()) return status;
  return variables;
}

absl::Status CheckTemplateInputs(std::span<const ChatMessage> messages,
                                 const TemplateInputs& inputs) {
  for (size_t i = 0; i < messages.size(); ++i) {
    const absl::Status status = CallsValue(CallsField(i), messages[i].tool_calls).status();
    if (!status.ok()) return status;
  }
  const absl::Status status = ToolsValue(inputs.tools).status();
  if (!status.ok()) return status;
  jinja::Variables unused;
  return AddArguments(inputs, &unused);
}

}  // namespace vernier
