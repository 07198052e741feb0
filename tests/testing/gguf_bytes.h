// Writes GGUF files in memory, well-formed or with one field broken.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace vernier::testing {

template <typename T>
std::string Raw(T value) {
  std::string bytes(sizeof(value), '\0');
  std::memcpy(bytes.data(), &value, sizeof(value));
  return bytes;
}

inline std::string GgufString(const std::string& text) { return Raw(uint64_t{text.size()}) + text; }

inline std::string GgufKey(const std::string& key, uint32_t type, const std::string& value) {
  return GgufString(key) + Raw(type) + value;
}
inline std::string GgufKey(const std::string& key, uint32_t value) {
  return GgufKey(key, 4, Raw(value));
}
inline std::string GgufKey(const std::string& key, float value) {
  return GgufKey(key, 6, Raw(value));
}
inline std::string GgufKey(const std::string& key, const std::string& value) {
  return GgufKey(key, 8, GgufString(value));
}
inline std::string GgufKey(const std::string& key, const std::vector<std::string>& values) {
  std::string array = Raw(uint32_t{8}) + Raw(uint64_t{values.size()});
  for (const std::string& value : values) array += GgufString(value);
  return GgufKey(key, 9, array);
}
inline std::string GgufKey(const std::string& key, const std::vector<int32_t>& values) {
  std::string array = Raw(uint32_t{5}) + Raw(uint64_t{values.size()});
  for (const int32_t value : values) array += Raw(value);
  return GgufKey(key, 9, array);
}

struct GgufTensorBytes {
  std::string name;
  std::vector<uint64_t> dims;  // fastest first, as the file has them
  uint32_t type = 0;           // f32
  std::string bytes;
  std::optional<uint64_t> offset = std::nullopt;  // where the last tensor ends, aligned
};

inline GgufTensorBytes GgufF32(const std::string& name, std::vector<uint64_t> dims,
                               const std::vector<float>& values) {
  std::string bytes;
  for (const float value : values) bytes += Raw(value);
  return {name, std::move(dims), 0, std::move(bytes)};
}

// A file in its parts; what is not set follows from the rest.
struct GgufBytes {
  std::string magic = "GGUF";
  uint32_t version = 3;
  std::optional<uint64_t> tensor_count, key_count;
  std::vector<std::string> keys;  // from GgufKey
  std::vector<GgufTensorBytes> tensors;
  uint64_t alignment = 32;

  std::string Bytes() const {
    std::string file = magic + Raw(version) + Raw(tensor_count.value_or(tensors.size())) +
                       Raw(key_count.value_or(keys.size()));
    for (const std::string& key : keys) file += key;
    std::string data;
    for (const GgufTensorBytes& tensor : tensors) {
      data.resize(Aligned(data.size()));
      file += GgufString(tensor.name) + Raw(static_cast<uint32_t>(tensor.dims.size()));
      for (const uint64_t size : tensor.dims) file += Raw(size);
      file += Raw(tensor.type) + Raw(tensor.offset.value_or(data.size()));
      data += tensor.bytes;
    }
    file.resize(Aligned(file.size()));
    return file + data;
  }

 private:
  size_t Aligned(size_t size) const { return (size + alignment - 1) / alignment * alignment; }
};

}  // namespace vernier::testing
