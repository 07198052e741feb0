#include "engine/text/tokenizer_parts.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace vernier {
namespace {

constexpr size_t kMaxTokenBytes = 64 << 10;
constexpr int64_t kMaxHoles = 64 << 10;

// For a message: escaped and shortened.
std::string Quoted(absl::string_view text) {
  constexpr size_t kShown = 40;
  return absl::StrCat("\"", absl::CHexEscape(text.substr(0, kShown)),
                      text.size() > kShown ? "\"..." : "\"");
}

}  // namespace

void PartsBuilder::ExpectTokens(size_t count) {
  max_ids_ = static_cast<int64_t>(count) + kMaxHoles;
  ids_.reserve(count);
}

absl::Status PartsBuilder::Place(int64_t id, absl::string_view spelling) {
  if (id < 0 || id >= max_ids_) {
    return absl::InvalidArgumentError(absl::StrCat("token ", Quoted(spelling), " has id ", id,
                                                   ", must be in [0, ", max_ids_, ")"));
  }
  if (spelling.size() > kMaxTokenBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("token ", id, " has ", spelling.size(), " bytes, limit ", kMaxTokenBytes));
  }
  const auto index = static_cast<size_t>(id);
  if (index >= parts_->spellings.size()) {
    parts_->spellings.resize(index + 1);
    parts_->used.resize(index + 1);
  }
  if (parts_->used[index]) {
    return absl::InvalidArgumentError(absl::StrCat(
        "id ", id, " is given to ", Quoted(parts_->spellings[index]), " and ", Quoted(spelling)));
  }
  const auto [it, inserted] = ids_.emplace(spelling, static_cast<int32_t>(id));
  if (!inserted) {
    return absl::InvalidArgumentError(
        absl::StrCat("ids ", it->second, " and ", id, " are both spelled ", Quoted(spelling)));
  }
  parts_->spellings[index] = std::string(spelling);
  parts_->used[index] = true;
  return absl::OkStatus();
}

absl::Status PartsBuilder::AddVocabulary(int64_t id, absl::string_view spelling) {
  return Place(id, spelling);
}

absl::Status PartsBuilder::AddAdded(AddedToken token) {
  if (token.content.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("added token ", token.id, " is empty"));
  }
  const int32_t known = Find(token.content);
  if (known < 0) {
    if (absl::Status status = Place(token.id, token.content); !status.ok()) return status;
  } else if (known != token.id) {
    return absl::InvalidArgumentError(absl::StrCat("added token ", Quoted(token.content),
                                                   " has id ", token.id,
                                                   ", but the vocabulary gives it ", known));
  }
  const auto [it, inserted] = added_.emplace(token.id, parts_->added.size());
  if (inserted) {
    parts_->added.push_back(std::move(token));
  } else {
    parts_->added[it->second] = std::move(token);
  }
  return absl::OkStatus();
}

absl::Status PartsBuilder::AddMerge(absl::string_view left, absl::string_view right) {
  const size_t rank = parts_->merges.size();
  if (left.empty() || right.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("merge ", rank, " has an empty side"));
  }
  BpeMerge merge;
  joined_.assign(left.data(), left.size());
  joined_.append(right.data(), right.size());
  const std::pair<absl::string_view, int32_t*> parts[] = {
      {left, &merge.left}, {right, &merge.right}, {joined_, &merge.result}};
  for (const auto& [spelling, id] : parts) {
    *id = Find(spelling);
    if (*id < 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "merge ", rank, " needs the token ", Quoted(spelling), ", which the vocabulary lacks"));
    }
  }
  merge.rank = static_cast<uint32_t>(rank);
  parts_->merges.push_back(merge);
  return absl::OkStatus();
}

absl::Status PartsBuilder::AddMerge(absl::string_view pair) {
  const size_t space = pair.find(' ');
  if (space == absl::string_view::npos || pair.find(' ', space + 1) != absl::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrCat("merge ", parts_->merges.size(), " is ",
                                                   Quoted(pair),
                                                   ", must be two tokens and one space"));
  }
  return AddMerge(pair.substr(0, space), pair.substr(space + 1));
}

int32_t PartsBuilder::Find(absl::string_view spelling) const {
  const auto it = ids_.find(spelling);
  return it == ids_.end() ? -1 : it->second;
}

std::string Llama3Pattern(int max_digits) {
  return absl::StrCat(R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})",
                      max_digits == 1 ? "" : absl::StrCat("{1,", max_digits, "}"),
                      R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)");
}

}  // namespace vernier
