#include "engine/text/byte_alphabet.h"

#include <array>
#include <cstdint>

#include "engine/text/utf8.h"

namespace vernier {
namespace {

// Printable bytes of Latin-1 stand for themselves; the other 68 follow each other from U+0100 on.
constexpr bool IsPrintable(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr char32_t kAlphabetEnd = 0x100 + 68;

constexpr std::array<int16_t, kAlphabetEnd> MakeTable() {
  std::array<int16_t, kAlphabetEnd> table{};
  for (auto& entry : table) entry = -1;
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    table[IsPrintable(byte) ? byte : next++] = static_cast<int16_t>(byte);
  }
  return table;
}

constexpr std::array<int16_t, kAlphabetEnd> kByteOfCodePoint = MakeTable();

}  // namespace

bool AppendAlphabetBytes(absl::string_view spelling, std::string* out) {
  const size_t before = out->size();
  while (!spelling.empty()) {
    const Utf8Unit unit = FirstUtf8Unit(spelling);
    if (unit.kind != Utf8Kind::kWhole || unit.code_point >= kAlphabetEnd ||
        kByteOfCodePoint[unit.code_point] < 0) {
      out->resize(before);
      return false;
    }
    out->push_back(static_cast<char>(kByteOfCodePoint[unit.code_point]));
    spelling.remove_prefix(unit.bytes);
  }
  return true;
}

}  // namespace vernier
