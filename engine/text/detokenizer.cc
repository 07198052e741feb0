#include "engine/text/detokenizer.h"

#include <algorithm>
#include <utility>

#include "engine/text/utf8.h"

namespace vernier {
namespace {

// Length of the longest end of `text` that is the start of `stop`, but not all of it.
size_t HeldFor(absl::string_view text, absl::string_view stop) {
  for (size_t length = std::min(text.size(), stop.size() - 1); length > 0; --length) {
    if (text.substr(text.size() - length) == stop.substr(0, length)) return length;
  }
  return 0;
}

struct StopMatch {
  int stop = -1;
  size_t begin = 0;
  size_t end = 0;
};

// The stop string that is complete first, among those the longest: what a reader of one character
// after the other finds, so that it does not matter how the text was cut into tokens.
StopMatch FirstStop(absl::string_view text, const std::vector<std::string>& stops) {
  StopMatch first;
  for (size_t i = 0; i < stops.size(); ++i) {
    const size_t begin = text.find(stops[i]);
    if (begin == absl::string_view::npos) continue;
    const size_t end = begin + stops[i].size();
    if (first.stop < 0 || end < first.end || (end == first.end && begin < first.begin)) {
      first = {static_cast<int>(i), begin, end};
    }
  }
  return first;
}

}  // namespace

Detokenizer::Detokenizer(const Tokenizer* tokenizer, std::vector<std::string> stops,
                         bool include_stop, bool special_as_text)
    : tokenizer_(tokenizer),
      stops_(std::move(stops)),
      include_stop_(include_stop),
      special_as_text_(special_as_text) {}

std::string Detokenizer::Push(int32_t id) {
  if (stop_ >= 0) return "";
  bytes_ += tokenizer_->TokenBytes(id, special_as_text_);
  return Release(false);
}

std::string Detokenizer::Flush() {
  if (stop_ >= 0) return "";
  return Release(true);
}

std::string Detokenizer::Release(bool at_end) {
  absl::string_view rest = bytes_;
  while (!rest.empty()) {
    const Utf8Unit unit = FirstUtf8Unit(rest);
    if (unit.kind == Utf8Kind::kUnfinished && !at_end) break;
    if (unit.kind == Utf8Kind::kWhole) {
      held_.append(rest.data(), unit.bytes);
    } else {
      held_ += kReplacementCharacter;
    }
    rest.remove_prefix(unit.bytes);
  }
  bytes_ = std::string(rest);

  const StopMatch match = FirstStop(held_, stops_);
  size_t given = held_.size();
  if (match.stop >= 0) {
    stop_ = match.stop;
    given = include_stop_ ? match.end : match.begin;
  } else if (!at_end) {
    size_t held = 0;
    for (const std::string& stop : stops_) held = std::max(held, HeldFor(held_, stop));
    given -= held;
  }
  std::string out = held_.substr(0, given);
  held_ = match.stop >= 0 ? "" : held_.substr(given);
  return out;
}

}  // namespace vernier
