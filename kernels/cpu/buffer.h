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

  // Makes every page exist now: what is written only later would fault in the middle of a step, and
  // would not be in the process's memory until then.
  void Touch();

  int64_t bytes() const { return bytes_; }
  uint8_t* data() const { return data_; }
  float* floats() const { return reinterpret_cast<float*>(data_); }

 private:
  uint8_t* data_ = nullptr;
  int64_t bytes_ = 0;
  bool mapped_ = false;  // by mmap, else by aligned new
};

// a * b and a + b for sizes from outside: -1 once anything is negative or overflows.
int64_t CheckedMultiply(int64_t a, int64_t b);
int64_t CheckedAdd(int64_t a, int64_t b);
// `value` rounded up to a multiple of `unit`; -1 as above.
int64_t CheckedRoundUp(int64_t value, int64_t unit);

}  // namespace vernier
