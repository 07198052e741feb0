// The bytes of one tensor, read from its file into one buffer, and their checksum.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "engine/checkpoint/random_access_file.h"
#include "kernels/tensor.h"

namespace vernier {

// Where the bytes lie: `runs` pieces of `run_bytes`, their beginnings `stride` apart.
struct TensorExtent {
  std::shared_ptr<const RandomAccessFile> file;
  int64_t offset = 0;  // of the first piece
  int64_t run_bytes = 0;
  int64_t runs = 1;
  int64_t stride = 0;
  int64_t bytes() const { return run_bytes * runs; }
};

// The pieces one after the other, from an address that is a multiple of 4096. A large piece is read
// by several threads. With `xxh3` the bytes are compared with it. RESOURCE_EXHAUSTED with the bytes
// wanted; INVALID_ARGUMENT naming the file and the tensor for another checksum; the file's errors.
absl::StatusOr<std::shared_ptr<const uint8_t[]>> ReadTensorBytes(const TensorExtent& extent,
                                                                 std::optional<uint64_t> xxh3,
                                                                 const std::string& name);

// XXH3's 64 bits of the same bytes. Errors as above.
absl::StatusOr<uint64_t> Xxh3OfTensor(const TensorExtent& extent, const std::string& name);

// Element `index` of little-endian values, which need no alignment.
template <typename T>
T ElementAt(const uint8_t* bytes, int64_t index) {
  T value;
  std::memcpy(&value, bytes + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

// The same of floats of a type that is known only now.
inline float FloatAt(ScalarType type, const uint8_t* bytes, int64_t index) {
  switch (type) {
    case ScalarType::kF16:
      return F32FromF16(ElementAt<uint16_t>(bytes, index));
    case ScalarType::kBF16:
      return F32FromBF16(ElementAt<uint16_t>(bytes, index));
    case ScalarType::kF32:
      break;
  }
  return ElementAt<float>(bytes, index);
}

}  // namespace vernier
