// UTF-8 text that knows, byte by byte, what came from outside of the template.
//
// A value. Every string operation of the interpreter keeps the marks, so that what a user wrote is
// still known as such in the rendered prompt.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace vernier::jinja {

enum class Origin : uint8_t { kTemplate, kContent };

class MarkedText {
 public:
  // Bytes [begin, end).
  struct Run {
    size_t begin = 0, end = 0;
  };

  MarkedText() = default;
  explicit MarkedText(absl::string_view bytes, Origin origin = Origin::kTemplate) {
    Append(bytes, origin);
  }

  const std::string& bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  // The runs that are content: in order, not empty, never adjacent.
  const std::vector<Run>& content() const { return content_; }
  // REQUIRES: offset < size().
  Origin OriginAt(size_t offset) const;

  void Append(absl::string_view bytes, Origin origin = Origin::kTemplate);
  // REQUIRES: `text` is not this object.
  void Append(const MarkedText& text) { AppendPart(text, 0, text.size()); }
  // REQUIRES: begin <= end <= text.size(), `text` is not this object.
  void AppendPart(const MarkedText& text, size_t begin, size_t end);
  MarkedText Part(size_t begin, size_t end) const;
  // Takes no more memory than its result.
  MarkedText Repeated(size_t times) const;

 private:
  size_t FirstRunEndingAfter(size_t offset) const;
  void Mark(size_t begin, size_t end);

  std::string bytes_;
  std::vector<Run> content_;
};

}  // namespace vernier::jinja
