#include "engine/text/added_tokens.h"

#include <algorithm>

#include "engine/text/utf8.h"

namespace vernier {
namespace {

bool TouchesWord(absl::string_view text, TextRange range) {
  const absl::string_view before = text.substr(0, range.begin);
  const absl::string_view behind = text.substr(range.end);
  return (!before.empty() && IsWordCharacter(LastUtf8Unit(before).code_point)) ||
         (!behind.empty() && IsWordCharacter(FirstUtf8Unit(behind).code_point));
}

uint32_t StripLeft(absl::string_view text, uint32_t begin, uint32_t limit) {
  while (begin > limit) {
    const Utf8Unit unit = LastUtf8Unit(text.substr(0, begin));
    if (!IsWhiteSpace(unit.code_point)) break;
    begin -= static_cast<uint32_t>(unit.bytes);
  }
  return std::max(begin, limit);
}

uint32_t StripRight(absl::string_view text, uint32_t end) {
  while (end < text.size()) {
    const Utf8Unit unit = FirstUtf8Unit(text.substr(end));
    if (!IsWhiteSpace(unit.code_point)) break;
    end += static_cast<uint32_t>(unit.bytes);
  }
  return end;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    trie_.Add(tokens_[i].content, static_cast<int32_t>(i));
    starts_[static_cast<uint8_t>(tokens_[i].content[0])] = true;
  }
}

const AddedToken* AddedTokenFinder::FindAt(absl::string_view text, uint32_t begin,
                                           const TextRange& template_range) const {
  const AddedToken* found = nullptr;
  int32_t node = ByteTrie::kRoot;
  for (uint32_t end = begin; end < text.size();) {
    node = trie_.Next(node, text[end]);
    if (node < 0) break;
    ++end;
    const int32_t index = trie_.ValueAt(node);
    if (index < 0) continue;
    const AddedToken& token = tokens_[index];
    if (token.special && (begin < template_range.begin || end > template_range.end)) continue;
    if (token.single_word && TouchesWord(text, {begin, end})) continue;
    found = &token;
  }
  return found;
}

std::vector<AddedSplit> AddedTokenFinder::Split(absl::string_view text,
                                                const TemplateRanges& template_ranges) const {
  std::vector<AddedSplit> out;
  uint32_t done = 0;
  size_t range = 0;  // the first that ends behind `at`
  const auto size = static_cast<uint32_t>(text.size());
  for (uint32_t at = 0; at < size && !tokens_.empty();) {
    if (!starts_[static_cast<uint8_t>(text[at])]) {
      ++at;
      continue;
    }
    while (range < template_ranges.size() && template_ranges[range].end <= at) ++range;
    const AddedToken* token =
        FindAt(text, at, range < template_ranges.size() ? template_ranges[range] : TextRange{});
    if (token == nullptr) {
      ++at;
      continue;
    }
    const uint32_t begin = token->lstrip ? StripLeft(text, at, done) : at;
    uint32_t end = at + static_cast<uint32_t>(token->content.size());
    if (token->rstrip) end = StripRight(text, end);
    if (done < begin) out.push_back({{done, begin}});
    out.push_back({{begin, end}, token->id});
    done = at = end;
  }
  if (done < size) out.push_back({{done, size}});
  return out;
}

int64_t AddedTokenFinder::bytes() const {
  return static_cast<int64_t>(tokens_.capacity() * sizeof(AddedToken)) + trie_.bytes();
}

}  // namespace vernier
