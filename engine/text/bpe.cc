#include "engine/text/bpe.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "engine/text/byte_alphabet.h"
#include "engine/text/utf8.h"
#include "engine/text/word_cuts.h"
#include "kernels/base/check.h"

namespace vernier {
namespace {

// Up to here a scan over all pairs is faster than a heap; its square is bounded by the constant.
constexpr size_t kShortSymbols = 32;
constexpr uint32_t kNoRank = std::numeric_limits<uint32_t>::max();

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// Order of a heap whose top is the best rank, then the leftmost.
bool Worse(const BpeScratch::Candidate& a, const BpeScratch::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
}

}  // namespace

absl::StatusOr<std::unique_ptr<BpeModel>> BpeModel::Create(const TokenizerParts& parts) {
  std::unique_ptr<BpeModel> model(new BpeModel);
  std::vector<bool> special(parts.spellings.size());
  for (const AddedToken& token : parts.added) special[token.id] = token.special;
  model->kind_ = parts.model;
  const std::vector<bool> plain = model->FillBytes(parts);
  const absl::Status status =
      model->over_bytes() ? model->FillByteTokens(parts, special) : model->characters_.Fill(parts);
  if (!status.ok()) return status;
  model->FillMerges(parts.merges, special);
  // A whole piece that is looked up may be a token of several words.
  if (parts.ignore_merges) model->cut_words_ = false;
  model->FillWhole(plain, parts.ignore_merges);
  return model;
}

// Returns by id: a token of the vocabulary, over bytes spelled in the alphabet.
std::vector<bool> BpeModel::FillBytes(const TokenizerParts& parts) {
  const size_t count = parts.spellings.size();
  std::vector<bool> plain = parts.used;
  for (const AddedToken& token : parts.added) plain[token.id] = false;
  offsets_.reserve(count + 1);
  offsets_.push_back(0);
  for (size_t id = 0; id < count; ++id) {
    if (!over_bytes()) {
      arena_ += parts.spellings[id];
    } else if (!plain[id] || !AppendAlphabetBytes(parts.spellings[id], &arena_)) {
      arena_ += parts.spellings[id];
      plain[id] = false;
    }
    offsets_.push_back(arena_.size());
  }
  return plain;
}

absl::Status BpeModel::FillByteTokens(const TokenizerParts& parts,
                                      const std::vector<bool>& special) {
  std::fill(std::begin(byte_tokens_), std::end(byte_tokens_), -1);
  std::string bytes;
  for (size_t id = 0; id < parts.spellings.size(); ++id) {
    if (parts.spellings[id].size() > 2) continue;  // an alphabet's character has one or two bytes
    bytes.clear();
    if (!AppendAlphabetBytes(parts.spellings[id], &bytes) || bytes.size() != 1) continue;
    const auto byte = static_cast<uint8_t>(bytes[0]);
    if (special[id]) {
      return absl::InvalidArgumentError(
          absl::StrCat("token ", id, " stands for the byte ", byte, " and is special"));
    }
    byte_tokens_[byte] = static_cast<int32_t>(id);
  }
  return absl::OkStatus();
}

void BpeModel::FillMerges(const std::vector<BpeMerge>& merges, const std::vector<bool>& special) {
  merges_.reserve(merges.size());
  bool across = false;
  for (const BpeMerge& merge : merges) {
    if (special[merge.result]) continue;  // text never becomes a special token
    // A repeated merge has the rank of its last place, as in Hugging Face tokenizers.
    merges_[PairKey(merge.left, merge.right)] = {merge.rank, merge.result};
    across = across || (!over_bytes() && ReachesAcrossWords(Bytes(merge.result)));
  }
  cut_words_ = !over_bytes() && !across && characters_.Find(kSpaceCharacter) >= 0;
}

void BpeModel::FillWhole(const std::vector<bool>& plain, bool ignore_merges) {
  whole_.reserve(plain.size());
  BpeScratch scratch;
  std::vector<int32_t> ids;
  for (int32_t id = 0; id < size(); ++id) {
    const absl::string_view token = Bytes(id);
    if (!plain[id] || token.empty()) continue;
    if (!ignore_merges) {
      ids.clear();
      Merged(token, &scratch, &ids);
      if (ids.size() != 1 || ids[0] != id) continue;
    }
    whole_.emplace(token, id);
  }
}

absl::string_view BpeModel::Bytes(int32_t id) const {
  VERNIER_CHECK(id >= 0 && id < size());
  return absl::string_view(arena_).substr(offsets_[id], offsets_[id + 1] - offsets_[id]);
}

int64_t BpeModel::bytes() const {
  // A slot of a flat_hash_map has one byte of control.
  return static_cast<int64_t>(arena_.capacity() + offsets_.capacity() * sizeof(offsets_[0]) +
                              merges_.capacity() * (sizeof(decltype(merges_)::value_type) + 1) +
                              whole_.capacity() * (sizeof(decltype(whole_)::value_type) + 1)) +
         characters_.bytes();
}

const BpeModel::Merge* BpeModel::Find(int32_t left, int32_t right, BpeScratch* scratch) const {
  ++scratch->operations;
  const auto it = merges_.find(PairKey(left, right));
  return it == merges_.end() ? nullptr : &it->second;
}

void BpeModel::Encode(absl::string_view piece, BpeScratch* scratch,
                      std::vector<int32_t>* out) const {
  if (!cut_words_) {
    EncodeWord(piece, scratch, out);
    return;
  }
  ForEachWord(piece, [&](absl::string_view word) { EncodeWord(word, scratch, out); });
}

void BpeModel::EncodeWord(absl::string_view piece, BpeScratch* scratch,
                          std::vector<int32_t>* out) const {
  ++scratch->operations;
  if (const auto it = whole_.find(piece); it != whole_.end()) {
    out->push_back(it->second);
    return;
  }
  Merged(piece, scratch, out);
}

void BpeModel::SeedBytes(absl::string_view piece, std::vector<int32_t>* ids) const {
  for (const char c : piece) {
    const int32_t id = byte_tokens_[static_cast<uint8_t>(c)];
    if (id >= 0) ids->push_back(id);
  }
}

void BpeModel::SeedCharacters(absl::string_view piece, std::vector<int32_t>* ids) const {
  while (!piece.empty()) {
    const Utf8Unit unit = FirstUtf8Unit(piece);
    const auto bytes = static_cast<size_t>(unit.bytes);
    const int32_t id = characters_.Find(unit.code_point);
    if (id >= 0) {
      ids->push_back(id);
    } else {
      characters_.AppendUnknown(piece.substr(0, bytes), 0, ids);
    }
    piece.remove_prefix(bytes);
  }
}

void BpeModel::Merged(absl::string_view piece, BpeScratch* scratch,
                      std::vector<int32_t>* out) const {
  scratch->ids.clear();
  if (over_bytes()) {
    SeedBytes(piece, &scratch->ids);
  } else {
    SeedCharacters(piece, &scratch->ids);
  }
  if (scratch->ids.size() <= kShortSymbols) {
    MergeShort(scratch, out);
  } else {
    MergeLong(scratch, out);
  }
}

void BpeModel::MergeShort(BpeScratch* scratch, std::vector<int32_t>* out) const {
  std::vector<int32_t>& ids = scratch->ids;
  size_t count = ids.size();
  uint32_t ranks[kShortSymbols];  // of the pair that begins at a symbol
  const auto rank_of = [&](size_t i) {
    if (i + 1 >= count) return kNoRank;
    const Merge* merge = Find(ids[i], ids[i + 1], scratch);
    return merge == nullptr ? kNoRank : merge->rank;
  };
  for (size_t i = 0; i < count; ++i) ranks[i] = rank_of(i);
  while (count > 1) {
    const size_t best = static_cast<size_t>(std::min_element(ranks, ranks + count) - ranks);
    scratch->operations += static_cast<int64_t>(count);
    if (ranks[best] == kNoRank) break;
    ids[best] = Find(ids[best], ids[best + 1], scratch)->result;
    std::copy(ids.begin() + static_cast<std::ptrdiff_t>(best) + 2,
              ids.begin() + static_cast<std::ptrdiff_t>(count),
              ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    std::copy(ranks + best + 2, ranks + count, ranks + best + 1);
    --count;
    ranks[best] = rank_of(best);
    if (best > 0) ranks[best - 1] = rank_of(best - 1);
  }
  out->insert(out->end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(count));
}

void BpeModel::PushCandidate(int32_t position, BpeScratch* scratch) const {
  if (position < 0) return;
  const BpeScratch::Symbol& left = scratch->symbols[position];
  if (left.next < 0) return;
  const int32_t right = scratch->symbols[left.next].id;
  const Merge* merge = Find(left.id, right, scratch);
  if (merge == nullptr) return;
  scratch->heap.push_back({merge->rank, position, left.id, right});
}

void BpeModel::MergeLong(BpeScratch* scratch, std::vector<int32_t>* out) const {
  const auto count = static_cast<int32_t>(scratch->ids.size());
  auto& symbols = scratch->symbols;
  auto& heap = scratch->heap;
  symbols.clear();
  heap.clear();
  for (int32_t i = 0; i < count; ++i) {
    symbols.push_back({scratch->ids[i], i - 1, i + 1 < count ? i + 1 : -1});
  }
  for (int32_t i = 0; i < count; ++i) PushCandidate(i, scratch);
  std::make_heap(heap.begin(), heap.end(), Worse);
  const auto push = [&](int32_t position) {
    const size_t before = heap.size();
    PushCandidate(position, scratch);
    if (heap.size() > before) std::push_heap(heap.begin(), heap.end(), Worse);
  };
  while (!heap.empty()) {
    ++scratch->operations;
    const BpeScratch::Candidate best = heap.front();
    std::pop_heap(heap.begin(), heap.end(), Worse);
    heap.pop_back();
    BpeScratch::Symbol& left = symbols[best.position];
    if (left.id != best.left || left.next < 0 || symbols[left.next].id != best.right) continue;
    BpeScratch::Symbol& right = symbols[left.next];
    left.id = Find(best.left, best.right, scratch)->result;
    left.next = right.next;
    right.id = -1;  // no candidate finds it again
    if (left.next >= 0) symbols[left.next].previous = best.position;
    push(best.position);
    push(left.previous);
  }
  for (int32_t i = 0; i >= 0; i = symbols[i].next) out->push_back(symbols[i].id);
}

}  // namespace vernier
