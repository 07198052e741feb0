#include "engine/checkpoint/gguf_cursor.h"

#include <algorithm>
#include <span>

#include "absl/strings/str_cat.h"

namespace vernier {
namespace {

constexpr int64_t kBufferBytes = 64 << 10;

}  // namespace

GgufCursor::GgufCursor(const RandomAccessFile& file, int64_t limit_bytes)
    : file_(file), end_(std::min(file.size(), limit_bytes)) {}

void GgufCursor::Copy(void* out, int64_t bytes) {
  if (!ok()) return;
  if (bytes > remaining()) {
    status_ = absl::InvalidArgumentError(
        absl::StrCat("byte ", offset_, ": ", bytes, " bytes expected, ", remaining(), " left"));
    return;
  }
  auto* to = static_cast<uint8_t*>(out);
  while (bytes > 0) {
    const int64_t at = offset_ - buffer_start_;
    const int64_t there = static_cast<int64_t>(buffer_.size()) - at;
    if (there == 0) {
      buffer_.resize(std::min(kBufferBytes, remaining()));
      buffer_start_ = offset_;
      status_ = file_.Read(offset_, std::span(buffer_));
      if (!ok()) return;
      continue;
    }
    const int64_t now = std::min(there, bytes);
    std::memcpy(to, buffer_.data() + at, static_cast<size_t>(now));
    to += now;
    offset_ += now;
    bytes -= now;
  }
}

std::string GgufCursor::String(int64_t max_bytes) {
  const auto length = Number<uint64_t>();
  if (!ok()) return {};
  const int64_t limit = std::min(max_bytes, remaining());
  if (length > static_cast<uint64_t>(limit)) {
    status_ = absl::InvalidArgumentError(
        absl::StrCat("byte ", offset_, ": a string of ", length, " bytes, limit ", limit));
    return {};
  }
  std::string text(length, '\0');
  Copy(text.data(), static_cast<int64_t>(length));
  return ok() ? text : std::string();
}

}  // namespace vernier
