// Reads the fields of a protobuf message, never outside its bytes.
//
// Source: protobuf.dev/programming-guides/encoding. Copies nothing.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vernier {

struct WireField {
  enum class Type : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };
  uint32_t number = 0;
  Type type = Type::kVarint;
  uint64_t value = 0;       // of kVarint, kFixed64 and kFixed32
  absl::string_view bytes;  // of kBytes, within the message
};

class WireReader {
 public:
  // `message` must outlive this and the fields.
  explicit WireReader(absl::string_view message) : rest_(message), size_(message.size()) {}

  // The next field, none at the end. INVALID_ARGUMENT with the offset in the message for a field
  // that ends behind it, a number out of 32 bits, or a type that no field has.
  absl::StatusOr<std::optional<WireField>> Next();

 private:
  bool TakeVarint(uint64_t* value);
  bool TakeFixed(int bytes, uint64_t* value);

  absl::string_view rest_;
  const size_t size_;
};

}  // namespace vernier
