#include "engine/text/pre_tokenizer.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/text/utf8.h"

namespace vernier {

const char kGpt2Pattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

absl::StatusOr<PreTokenizer> PreTokenizer::Create(const std::vector<SplitRule>& rules) {
  PreTokenizer out;
  for (const SplitRule& rule : rules) {
    auto pattern = Pattern::Compile(rule.pattern, rule.syntax);
    if (!pattern.ok()) return pattern.status();
    out.steps_.push_back({*std::move(pattern), rule.behavior, rule.invert});
  }
  return out;
}

PreTokenizerRun::PreTokenizerRun(const PreTokenizer* pre_tokenizer)
    : pre_tokenizer_(pre_tokenizer) {
  for (const PreTokenizer::Step& step : pre_tokenizer->steps_) {
    matchers_.push_back(std::make_unique<Matcher>(step.pattern.get()));
  }
}

// Matches and what lies between them, in order.
absl::Status PreTokenizerRun::Cuts(size_t step, absl::string_view text) {
  const bool invert = pre_tokenizer_->steps_[step].invert;
  cuts_.clear();
  const auto add = [&](uint32_t begin, uint32_t end, bool match) {
    if (begin < end) cuts_.push_back({{begin, end}, match != invert});
  };
  uint32_t done = 0;
  uint32_t from = 0;
  TextRange found;
  while (from < text.size()) {
    const Matcher::Result result = matchers_[step]->Find(text, from, &found);
    if (result == Matcher::Result::kNone) break;
    if (result == Matcher::Result::kLimit) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the tokenizer's pattern exceeds its limit of steps at byte ", from,
                       " of a part of ", text.size(), " bytes"));
    }
    if (found.begin == found.end) {  // an empty match cuts nothing: go on behind one character
      from = found.end;
      if (from < text.size()) from += FirstUtf8Unit(text.substr(from)).bytes;
      continue;
    }
    add(done, found.begin, false);
    add(found.begin, found.end, true);
    done = from = found.end;
  }
  add(done, static_cast<uint32_t>(text.size()), false);
  return absl::OkStatus();
}

// Turns the cuts of one piece at `offset` into pieces of the next step.
void PreTokenizerRun::Append(SplitBehavior behavior, uint32_t offset) {
  const size_t first = next_.size();
  const auto push = [&](TextRange range) {
    next_.push_back({range.begin + offset, range.end + offset});
  };
  bool previous = false;
  switch (behavior) {
    case SplitBehavior::kRemoved:
      for (const Cut& cut : cuts_) {
        if (!cut.match) push(cut.range);
      }
      break;
    case SplitBehavior::kIsolated:
      for (const Cut& cut : cuts_) push(cut.range);
      break;
    case SplitBehavior::kContiguous:
      for (const Cut& cut : cuts_) {
        if (next_.size() > first && cut.match == previous) {
          next_.back().end = cut.range.end + offset;
        } else {
          push(cut.range);
        }
        previous = cut.match;
      }
      break;
    case SplitBehavior::kMergedWithPrevious:
      for (const Cut& cut : cuts_) {
        if (next_.size() > first && cut.match && !previous) {
          next_.back().end = cut.range.end + offset;
        } else {
          push(cut.range);
        }
        previous = cut.match;
      }
      break;
    case SplitBehavior::kMergedWithNext:
      for (auto cut = cuts_.rbegin(); cut != cuts_.rend(); ++cut) {
        if (next_.size() > first && cut->match && !previous) {
          next_.back().begin = cut->range.begin + offset;
        } else {
          push(cut->range);
        }
        previous = cut->match;
      }
      std::reverse(next_.begin() + static_cast<std::ptrdiff_t>(first), next_.end());
      break;
  }
}

absl::StatusOr<const std::vector<TextRange>*> PreTokenizerRun::Split(absl::string_view text) {
  pieces_.clear();
  if (!text.empty()) pieces_.push_back({0, static_cast<uint32_t>(text.size())});
  for (size_t step = 0; step < matchers_.size(); ++step) {
    next_.clear();
    for (const TextRange piece : pieces_) {
      const absl::Status status = Cuts(step, text.substr(piece.begin, piece.end - piece.begin));
      if (!status.ok()) return status;
      Append(pre_tokenizer_->steps_[step].behavior, piece.begin);
    }
    std::swap(pieces_, next_);
  }
  return &pieces_;
}

}  // namespace vernier
