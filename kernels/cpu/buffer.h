// Memory of the CPU backend: aligned, zeroed, in huge pages where the system gives them.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vernier {

// Owns `bytes()` bytes, zero at first, aligned to a cache line. Movable; as thread-safe as memory.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  // `what` and the bytes stand in the message of RESOURCE_EXHAUSTED. A size below 0 is one that
  // overflowed.
  static absl::StatusOr<Buffer> Allocate(int64_t bytes, absl::string_view what);

  // [offset, offset + bytes) of `slab`, which is freed with the last of its parts. REQUIRES: it has
  // them, and multiples of a cache line.
  static Buffer PartOf(std::shared_ptr<const Buffer> slab, int64_t offset, int64_t bytes);

  int64_t bytes() const { return bytes_; }
  uint8_t* data() const { return data_; }
  float* floats() const { return reinterpret_cast<float*>(data_); }

 private:
  uint8_t* data_ = nullptr;
  int64_t bytes_ = 0;
  bool mapped_ = false;                 // by mmap, else by aligned new
  std::shared_ptr<const Buffer> slab_;  // what this is a part of, or null
};

// Memory of buffers that come and go together, such as the weights of a model: small ones lie one
// after the other in slabs, so that they too have huge pages (a thread of Zen 4 reads 26 GB/s from
// those, 20 from small pages). A slab goes with the last of its buffers, whether the arena is still
// there or not. One thread at a time.
class Arena {
 public:
  // As Buffer::Allocate.
  absl::StatusOr<Buffer> Allocate(int64_t bytes, absl::string_view what);

 private:
  std::weak_ptr<const Buffer> slab_;  // where there is room
  int64_t used_bytes_ = 0;            // of it
};

// a * b and a + b for sizes from outside: -1 once anything is negative or overflows.
int64_t CheckedMultiply(int64_t a, int64_t b);
int64_t CheckedAdd(int64_t a, int64_t b);
// `value` rounded up to a multiple of `unit`; -1 as above.
int64_t CheckedRoundUp(int64_t value, int64_t unit);

}  // namespace vernier
