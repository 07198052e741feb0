// Reads numbers and strings of a GGUF header one after the other, within the file.
//
// One thread. After an error every read gives zero or nothing, so a caller may check once for
// several reads, but before it trusts a count.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/checkpoint/random_access_file.h"

namespace vernier {

class GgufCursor {
 public:
  // Reads at most `limit_bytes` of `file`, which must outlive it.
  GgufCursor(const RandomAccessFile& file, int64_t limit_bytes);

  bool ok() const { return status_.ok(); }
  // INVALID_ARGUMENT that says what was wanted and what is left; or the file's.
  const absl::Status& status() const { return status_; }
  int64_t offset() const { return offset_; }
  int64_t remaining() const { return end_ - offset_; }

  template <typename T>
  T Number() {
    T value{};
    Copy(&value, sizeof(value));
    return value;
  }
  // A 64-bit length, at most `max_bytes`, and as many bytes.
  std::string String(int64_t max_bytes);

 private:
  void Copy(void* out, int64_t bytes);

  const RandomAccessFile& file_;
  const int64_t end_;
  int64_t offset_ = 0;
  std::vector<uint8_t> buffer_;  // the file's bytes from buffer_start_
  int64_t buffer_start_ = 0;
  absl::Status status_;
};

}  // namespace vernier
