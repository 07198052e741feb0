#include "engine/text/unigram.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/text/utf8.h"
#include "engine/text/word_cuts.h"

namespace vernier {
namespace {

constexpr double kUnknownPenalty = 10;  // below the worst token

}  // namespace

absl::StatusOr<std::unique_ptr<UnigramModel>> UnigramModel::Create(const TokenizerParts& parts) {
  std::unique_ptr<UnigramModel> model(new UnigramModel);
  if (absl::Status status = model->characters_.Fill(parts); !status.ok()) return status;
  model->scores_ = parts.scores;
  model->scores_.resize(parts.spellings.size(), -std::numeric_limits<double>::infinity());
  std::vector<bool> plain = parts.used;
  for (const AddedToken& token : parts.added) {
    if (token.special) plain[token.id] = false;
  }
  double worst = std::numeric_limits<double>::infinity();
  bool across = false;
  for (size_t id = 0; id < parts.spellings.size(); ++id) {
    if (!plain[id] || !std::isfinite(model->scores_[id]) || parts.spellings[id].empty()) continue;
    model->trie_.Add(parts.spellings[id], static_cast<int32_t>(id));
    worst = std::min(worst, model->scores_[id]);
    across = across || ReachesAcrossWords(parts.spellings[id]);
  }
  model->unknown_score_ = (std::isfinite(worst) ? worst : 0) - kUnknownPenalty;
  model->cut_words_ = !across && model->characters_.Find(kSpaceCharacter) >= 0;
  return model;
}

void UnigramModel::Encode(absl::string_view text, UnigramScratch* scratch,
                          std::vector<int32_t>* out) const {
  const size_t first = out->size();
  if (!cut_words_) {
    EncodeWord(text, first, scratch, out);
    return;
  }
  ForEachWord(text, [&](absl::string_view word) { EncodeWord(word, first, scratch, out); });
}

// Ways on from the best way to `begin`.
void UnigramModel::Extend(absl::string_view word, size_t begin, UnigramScratch* scratch) const {
  auto& nodes = scratch->nodes;
  const double score = nodes[begin].score;
  const auto reach = [&](size_t end, double token_score, int32_t id) {
    UnigramScratch::Node& node = nodes[end];
    if (node.begin >= 0 && node.score >= score + token_score) return;
    node = {score + token_score, static_cast<int32_t>(begin), id};
  };
  const auto character_bytes = static_cast<size_t>(FirstUtf8Unit(word.substr(begin)).bytes);
  bool has_character = false;
  int32_t node = ByteTrie::kRoot;
  for (size_t end = begin; end < word.size();) {
    ++scratch->operations;
    node = trie_.Next(node, word[end]);
    if (node < 0) break;
    ++end;
    const int32_t id = trie_.ValueAt(node);
    if (id < 0) continue;
    reach(end, scores_[id], id);
    has_character = has_character || end == begin + character_bytes;
  }
  if (!has_character) reach(begin + character_bytes, unknown_score_, -1);
}

void UnigramModel::EncodeWord(absl::string_view word, size_t first, UnigramScratch* scratch,
                              std::vector<int32_t>* out) const {
  auto& nodes = scratch->nodes;
  nodes.assign(word.size() + 1, {0, -1, -1});
  if (word.empty()) return;
  nodes[0].begin = 0;
  for (size_t begin = 0; begin < word.size(); ++begin) {
    if (nodes[begin].begin >= 0) Extend(word, begin, scratch);
  }
  scratch->path.clear();
  for (auto end = static_cast<int32_t>(word.size()); end > 0; end = nodes[end].begin) {
    scratch->path.push_back(end);
  }
  for (auto end = scratch->path.rbegin(); end != scratch->path.rend(); ++end) {
    const UnigramScratch::Node& node = nodes[*end];
    if (node.id >= 0) {
      out->push_back(node.id);
    } else {
      characters_.AppendUnknown(word.substr(node.begin, *end - node.begin), first, out);
    }
  }
}

}  // namespace vernier
