#include "server/parse.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/message.h>

#include <limits>

#include "absl/strings/str_cat.h"
#include "engine/status_payload.h"

namespace vernier {
namespace {

absl::Status Malformed() {
  return InvalidField({"message", "malformed", "a well-formed message of the method's type"});
}

bool ReadVarint(absl::string_view* bytes, uint64_t* value) {
  *value = 0;
  for (int i = 0; i < 10 && static_cast<size_t>(i) < bytes->size(); ++i) {
    const auto byte = static_cast<uint8_t>((*bytes)[i]);
    *value |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);
    if (byte < 0x80) {
      bytes->remove_prefix(i + 1);
      return true;
    }
  }
  return false;
}

// What a parser would allocate objects for, counted over the whole message.
struct Counts {
  int64_t fields = 0;   // tags; a packed array is one
  int64_t entries = 0;  // those with a length
};

// Reads a tag and what fixed part follows it. `length`: bytes of a length-delimited field's
// content.
bool ReadTag(absl::string_view* bytes, uint64_t* tag, size_t* length) {
  uint64_t value;
  *length = 0;
  if (!ReadVarint(bytes, tag) || *tag >> 3 == 0 || *tag > std::numeric_limits<uint32_t>::max()) {
    return false;
  }
  size_t skip = 0;
  switch (*tag & 7) {
    case 0:
      return ReadVarint(bytes, &value);
    case 1:
      skip = 8;
      break;
    case 2:
      if (!ReadVarint(bytes, &value) || value > bytes->size()) return false;
      *length = value;
      return true;
    case 3:
    case 4:
      return true;
    case 5:
      skip = 4;
      break;
    default:
      return false;
  }
  if (skip > bytes->size()) return false;
  bytes->remove_prefix(skip);
  return true;
}

// Walks a message of the given type. It calls itself for fields whose type is a message, so no
// deeper than our own types nest; groups exist in unknown fields alone and are only counted.
absl::Status CheckFields(absl::string_view bytes, const google::protobuf::Descriptor* type,
                         Counts* counts) {
  int64_t groups = 0;
  while (!bytes.empty()) {
    uint64_t tag;
    size_t length;
    if (!ReadTag(&bytes, &tag, &length)) return Malformed();
    if (++counts->fields > kMaxFields) {
      return InvalidField({"message", "too many fields", absl::StrCat("at most ", kMaxFields)});
    }
    if ((tag & 7) == 3 && ++groups > kMaxNesting) {
      return InvalidField({"message", "too deep", absl::StrCat("at most ", kMaxNesting)});
    }
    if ((tag & 7) == 4 && --groups < 0) return Malformed();
    if ((tag & 7) != 2) continue;
    if (++counts->entries > kMaxEntries) {
      return InvalidField({"message", "too many entries", absl::StrCat("at most ", kMaxEntries)});
    }
    const auto* field = type->FindFieldByNumber(static_cast<int>(tag >> 3));
    if (groups == 0 && field != nullptr && field->message_type() != nullptr) {
      if (absl::Status status = CheckFields(bytes.substr(0, length), field->message_type(), counts);
          !status.ok()) {
        return status;
      }
    }
    bytes.remove_prefix(length);
  }
  return groups == 0 ? absl::OkStatus() : Malformed();
}

}  // namespace

absl::Status MessageTooLarge(int64_t bytes, int64_t max_bytes) {
  return Rejected(RejectReason::kNone,
                  absl::StrCat("the message has ", bytes, " bytes, limit ", max_bytes),
                  -absl::Seconds(1));
}

absl::Status ParseMessage(absl::string_view bytes, int64_t max_bytes,
                          google::protobuf::Message* message) {
  if (static_cast<int64_t>(bytes.size()) > max_bytes) {
    return MessageTooLarge(static_cast<int64_t>(bytes.size()), max_bytes);
  }
  Counts counts;
  if (absl::Status status = CheckFields(bytes, message->GetDescriptor(), &counts); !status.ok()) {
    return status;
  }
  google::protobuf::io::CodedInputStream input(reinterpret_cast<const uint8_t*>(bytes.data()),
                                               static_cast<int>(bytes.size()));
  input.SetRecursionLimit(kMaxNesting);
  if (!message->ParseFromCodedStream(&input) || !input.ConsumedEntireMessage()) return Malformed();
  return absl::OkStatus();
}

}  // namespace vernier
