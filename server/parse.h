// Turns the bytes of a request into a message, within limits of size, depth and number of entries.
//
// Every front end goes through here: gRPC's own parser answers malformed bytes with code 12 and no
// text.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace google::protobuf {
class Message;
}

namespace vernier {

inline constexpr int kMaxNesting = 32;           // messages and groups inside each other
inline constexpr int64_t kMaxFields = 1 << 18;   // tags of the outer message and of those inside
inline constexpr int64_t kMaxEntries = 1 << 16;  // of them with a length: strings and messages

// RESOURCE_EXHAUSTED (a retry cannot help) above `max_bytes`; INVALID_ARGUMENT for garbage, a cut
// message, ill-formed UTF-8 in a string, or more than the limits above. Nothing but `message` grows
// with the input, and that only after the limits were checked. Any thread.
absl::Status ParseMessage(absl::string_view bytes, int64_t max_bytes,
                          google::protobuf::Message* message);

// The same for bytes whose size was checked at arrival.
template <typename Message>
absl::StatusOr<Message> ParseAs(absl::string_view bytes) {
  Message message;
  if (absl::Status status = ParseMessage(bytes, static_cast<int64_t>(bytes.size()), &message);
      !status.ok()) {
    return status;
  }
  return message;
}

// What ParseMessage says of a message of `bytes` that is too large to be copied even once.
absl::Status MessageTooLarge(int64_t bytes, int64_t max_bytes);

}  // namespace vernier
