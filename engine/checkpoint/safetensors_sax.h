// Collects the entries of a safetensors header while its JSON is parsed, so that a repeated name is
// seen and nesting costs no memory.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace vernier {

// A tensor as the header describes it, unchecked but for its kinds.
struct SafetensorsHeaderEntry {
  std::string name;
  std::string type;
  std::vector<uint64_t> shape;
  std::array<uint64_t, 2> offsets{};  // begin and end, from the end of the header
};

// One parse. Any handler that returns false ends it; `error` then says why, without the file's
// name.
class SafetensorsSax : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<SafetensorsHeaderEntry> entries;
  std::string error;

  bool null() override;
  bool boolean(bool value) override;
  bool number_integer(number_integer_t value) override;
  bool number_unsigned(number_unsigned_t value) override;
  bool number_float(number_float_t value, const string_t& text) override;
  bool string(string_t& value) override;
  bool binary(binary_t& value) override;
  bool start_object(size_t size) override;
  bool key(string_t& value) override;
  bool end_object() override;
  bool start_array(size_t size) override;
  bool end_array() override;
  bool parse_error(size_t position, const std::string& token,
                   const nlohmann::detail::exception& exception) override;

 private:
  // Where the parse is.
  enum class State : uint8_t { kStart, kTop, kMetadata, kTensor, kType, kShape, kOffsets, kEnd };
  enum Seen : uint8_t { kSawType = 1, kSawShape = 2, kSawOffsets = 4, kSawAll = 7 };

  bool Refuse(const std::string& what);
  bool WrongKind(const char* kind);

  State state_ = State::kStart;
  bool in_array_ = false;
  uint8_t seen_ = 0;        // of the tensor that is being read
  size_t num_offsets_ = 0;  // likewise
};

}  // namespace vernier
