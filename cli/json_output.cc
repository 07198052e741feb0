#include "cli/json_output.h"

#include <google/protobuf/descriptor.h>

#include <charconv>
#include <cmath>
#include <cstdint>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace vernier::cli {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using nlohmann::ordered_json;

ordered_json NumberOf(double value) {
  if (std::isnan(value)) return nullptr;
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return value;
}

// 0.1f is 0.1, not the double 0.10000000149011612.
ordered_json NumberOf(float value) {
  if (!std::isfinite(value)) return NumberOf(static_cast<double>(value));
  char text[32];
  const auto end = std::to_chars(text, text + sizeof(text), value).ptr;
  double shortest = value;
  std::from_chars(text, end, shortest);
  return shortest;
}

ordered_json TextOf(const FieldDescriptor& field, const std::string& value) {
  if (field.type() == FieldDescriptor::TYPE_BYTES) return absl::Base64Escape(value);
  return value;
}

ordered_json EnumOf(const FieldDescriptor& field, int number) {
  const auto* value = field.enum_type()->FindValueByNumber(number);
  if (value == nullptr) return number;
  return std::string(value->name());
}

// One value of a field: `index` < 0 for a singular one.
ordered_json ValueOf(const Message& message, const FieldDescriptor& field, int index) {
  const Reflection& from = *message.GetReflection();
  const FieldDescriptor* f = &field;
  const bool one = index < 0;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return one ? from.GetInt32(message, f) : from.GetRepeatedInt32(message, f, index);
    case FieldDescriptor::CPPTYPE_INT64:
      return one ? from.GetInt64(message, f) : from.GetRepeatedInt64(message, f, index);
    case FieldDescriptor::CPPTYPE_UINT32:
      return one ? from.GetUInt32(message, f) : from.GetRepeatedUInt32(message, f, index);
    case FieldDescriptor::CPPTYPE_UINT64:
      return one ? from.GetUInt64(message, f) : from.GetRepeatedUInt64(message, f, index);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return NumberOf(one ? from.GetDouble(message, f) : from.GetRepeatedDouble(message, f, index));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return NumberOf(one ? from.GetFloat(message, f) : from.GetRepeatedFloat(message, f, index));
    case FieldDescriptor::CPPTYPE_BOOL:
      return one ? from.GetBool(message, f) : from.GetRepeatedBool(message, f, index);
    case FieldDescriptor::CPPTYPE_ENUM:
      return EnumOf(field, one ? from.GetEnumValue(message, f)
                               : from.GetRepeatedEnumValue(message, f, index));
    case FieldDescriptor::CPPTYPE_STRING:
      return TextOf(field,
                    one ? from.GetString(message, f) : from.GetRepeatedString(message, f, index));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return ToJson(one ? from.GetMessage(message, f) : from.GetRepeatedMessage(message, f, index));
  }
  return nullptr;
}

std::string KeyOf(const ordered_json& key) {
  return key.is_string() ? key.get<std::string>() : key.dump();
}

ordered_json MapOf(const Message& message, const FieldDescriptor& field) {
  ordered_json out = ordered_json::object();
  const Reflection& from = *message.GetReflection();
  for (int i = 0; i < from.FieldSize(message, &field); ++i) {
    const Message& entry = from.GetRepeatedMessage(message, &field, i);
    const auto& type = *field.message_type();
    out[KeyOf(ValueOf(entry, *type.map_key(), -1))] = ValueOf(entry, *type.map_value(), -1);
  }
  return out;
}

ordered_json ListOf(const Message& message, const FieldDescriptor& field) {
  ordered_json out = ordered_json::array();
  for (int i = 0; i < message.GetReflection()->FieldSize(message, &field); ++i) {
    out.push_back(ValueOf(message, field, i));
  }
  return out;
}

}  // namespace

ordered_json ToJson(const Message& message) {
  ordered_json out = ordered_json::object();
  const auto& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const std::string name(field.name());
    if (field.is_map()) {
      out[name] = MapOf(message, field);
    } else if (field.is_repeated()) {
      out[name] = ListOf(message, field);
    } else if (field.has_presence() && !message.GetReflection()->HasField(message, &field)) {
      if (field.real_containing_oneof() == nullptr) out[name] = nullptr;
    } else {
      out[name] = ValueOf(message, field, -1);
    }
  }
  return out;
}

std::string JsonLine(const ordered_json& json) {
  return absl::StrCat(json.dump(-1, ' ', false, ordered_json::error_handler_t::replace), "\n");
}

}  // namespace vernier::cli
