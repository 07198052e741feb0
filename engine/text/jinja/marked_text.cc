#include "engine/text/jinja/marked_text.h"

#include <algorithm>

namespace vernier::jinja {

size_t MarkedText::FirstRunEndingAfter(size_t offset) const {
  const auto found = std::partition_point(content_.begin(), content_.end(),
                                          [&](const Run& run) { return run.end <= offset; });
  return static_cast<size_t>(found - content_.begin());
}

Origin MarkedText::OriginAt(size_t offset) const {
  const size_t i = FirstRunEndingAfter(offset);
  const bool inside = i < content_.size() && content_[i].begin <= offset;
  return inside ? Origin::kContent : Origin::kTemplate;
}

void MarkedText::Mark(size_t begin, size_t end) {
  if (begin == end) return;
  if (!content_.empty() && content_.back().end == begin) {
    content_.back().end = end;
  } else {
    content_.push_back({begin, end});
  }
}

void MarkedText::Append(absl::string_view bytes, Origin origin) {
  if (origin == Origin::kContent) Mark(bytes_.size(), bytes_.size() + bytes.size());
  bytes_.append(bytes.data(), bytes.size());
}

void MarkedText::AppendPart(const MarkedText& text, size_t begin, size_t end) {
  const size_t at = bytes_.size();
  bytes_.append(text.bytes_, begin, end - begin);
  for (size_t i = text.FirstRunEndingAfter(begin);
       i < text.content_.size() && text.content_[i].begin < end; ++i) {
    const size_t from = std::max(text.content_[i].begin, begin) - begin;
    const size_t to = std::min(text.content_[i].end, end) - begin;
    Mark(at + from, at + to);
  }
}

MarkedText MarkedText::Part(size_t begin, size_t end) const {
  MarkedText part;
  part.AppendPart(*this, begin, end);
  return part;
}

MarkedText MarkedText::Repeated(size_t times) const {
  MarkedText out;
  const size_t total = bytes_.size() * times;
  out.bytes_.reserve(total);
  out.content_.reserve(content_.size() * times);
  if (total > 0) out.bytes_ = bytes_;
  while (out.bytes_.size() < total) {
    out.bytes_.append(out.bytes_.data(), std::min(out.bytes_.size(), total - out.bytes_.size()));
  }
  for (size_t i = 0; !content_.empty() && i < times; ++i) {
    for (const Run& run : content_) {
      out.Mark(i * bytes_.size() + run.begin, i * bytes_.size() + run.end);
    }
  }
  return out;
}

}  // namespace vernier::jinja
