#include "engine/text/wire_reader.h"

#include "absl/strings/str_cat.h"

namespace vernier {

bool WireReader::TakeVarint(uint64_t* value) {
  *value = 0;
  for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
    const auto byte = static_cast<uint8_t>(rest_[0]);
    rest_.remove_prefix(1);
    *value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

bool WireReader::TakeFixed(int bytes, uint64_t* value) {
  if (rest_.size() < static_cast<size_t>(bytes)) return false;
  *value = 0;
  for (int i = bytes; i-- > 0;) *value = *value << 8 | static_cast<uint8_t>(rest_[i]);
  rest_.remove_prefix(bytes);
  return true;
}

absl::StatusOr<std::optional<WireField>> WireReader::Next() {
  if (rest_.empty()) return std::nullopt;
  const size_t offset = size_ - rest_.size();
  uint64_t tag = 0;
  WireField field;
  bool whole = TakeVarint(&tag) && tag >> 3 != 0 && tag >> 3 <= UINT32_MAX >> 3;
  field.number = static_cast<uint32_t>(tag >> 3);
  field.type = static_cast<WireField::Type>(tag & 7);
  if (whole) {
    switch (field.type) {
      case WireField::Type::kVarint:
        whole = TakeVarint(&field.value);
        break;
      case WireField::Type::kFixed64:
        whole = TakeFixed(8, &field.value);
        break;
      case WireField::Type::kFixed32:
        whole = TakeFixed(4, &field.value);
        break;
      case WireField::Type::kBytes:
        whole = TakeVarint(&field.value) && field.value <= rest_.size();
        if (!whole) break;
        field.bytes = rest_.substr(0, field.value);
        rest_.remove_prefix(field.value);
        break;
      default:
        whole = false;
    }
  }
  if (whole) return field;
  return absl::InvalidArgumentError(
      absl::StrCat("broken field at byte ", offset, " of a message of ", size_));
}

}  // namespace vernier
