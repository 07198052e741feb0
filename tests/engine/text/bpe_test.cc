// Merges: their order, and that their cost grows with the text and no faster.
#include "engine/text/bpe.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/engine/text/text_sources.h"

namespace vernier {
namespace {

using Ids = std::vector<int32_t>;

TokenizerParts Gpt2Parts() {
  const TokenizerSource source = testing::FolderSource(testing::TestDataPath("tokenizers/gpt2"));
  auto parts = PartsFromTokenizerJson(source.tokenizer_json, source.tokenizer_config_json);
  return parts.ok() ? *std::move(parts) : TokenizerParts();
}

const TokenizerParts& Parts() {
  static const auto* const parts = new TokenizerParts(Gpt2Parts());
  return *parts;
}

const BpeModel& Model() {
  static const auto* const model = new std::unique_ptr<BpeModel>(*BpeModel::Create(Parts()));
  return **model;
}

// The definition: merge the leftmost pair of the best rank until there is none.
Ids ByDefinition(const std::string& text) {
  static const auto* const ranks = [] {
    auto* map = new std::map<std::pair<int32_t, int32_t>, std::pair<size_t, int32_t>>;
    for (size_t i = 0; i < Parts().merges.size(); ++i) {
      const BpeMerge& merge = Parts().merges[i];
      (*map)[{merge.left, merge.right}] = {i, merge.result};
    }
    return map;
  }();
  static const auto* const byte_ids = [] {
    auto* map = new std::map<char, int32_t>;
    for (int32_t id = 0; id < 256; ++id) (*map)[Model().Bytes(id)[0]] = id;
    return map;
  }();
  Ids ids;
  for (const char c : text) ids.push_back(byte_ids->at(c));
  while (true) {
    size_t best = ids.size();
    std::pair<size_t, int32_t> found{SIZE_MAX, -1};
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto it = ranks->find({ids[i], ids[i + 1]});
      if (it != ranks->end() && it->second.first < found.first) {
        found = it->second;
        best = i;
      }
    }
    if (best == ids.size()) return ids;
    ids[best] = found.second;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

TEST(BpeTest, EqualsTheDefinitionForShortAndLongPieces) {
  std::mt19937 random(20260701);
  BpeScratch scratch;
  const std::string letters = "aaeeinorst  hl.0\xC3\xA9";
  for (int round = 0; round < 400; ++round) {
    const size_t length = 1 + random() % (round % 2 == 0 ? 30 : 300);
    const size_t kinds = 1 + random() % letters.size();
    std::string text;
    while (text.size() < length) text += letters[random() % kinds];
    Ids ids;
    Model().Encode(text, &scratch, &ids);
    ASSERT_EQ(ids, ByDefinition(text)) << text;
  }
}

TEST(BpeTest, EveryTokenThatMergesMakeIsOneLookUp) {
  BpeScratch scratch;
  Ids ids;
  Model().Encode(" tokenization", &scratch, &ids);
  EXPECT_EQ(ids.size(), 2u);  // " token", "ization": no such token
  ids.clear();
  scratch.operations = 0;
  Model().Encode(" the", &scratch, &ids);
  EXPECT_EQ(ids.size(), 1u);
  EXPECT_EQ(scratch.operations, 1);
}

// Counted, not timed: twice the piece costs at most 2.3 times the operations (n log n).
TEST(BpeTest, CostOfOnePieceGrowsWithItsLength) {
  for (const std::string unit : {"a", " ", "ab", "the", "\xE6\x9D\xB1", "="}) {
    int64_t before = 0;
    for (const size_t size : {size_t{1} << 14, size_t{1} << 15, size_t{1} << 16}) {
      std::string piece;
      while (piece.size() < size) piece += unit;
      BpeScratch scratch;
      Ids ids;
      Model().Encode(piece, &scratch, &ids);
      if (before > 0) {
        EXPECT_LT(static_cast<double>(scratch.operations), 2.3 * static_cast<double>(before));
      }
      EXPECT_LT(scratch.operations, static_cast<int64_t>(piece.size()) * 12);
      before = scratch.operations;
    }
  }
}

TEST(BpeTest, AMegabyteOfOneCharacterIsEncodedWhole) {
  BpeScratch scratch;
  Ids ids;
  const std::string piece(1 << 20, 'a');
  Model().Encode(piece, &scratch, &ids);
  size_t bytes = 0;
  for (const int32_t id : ids) bytes += Model().Bytes(id).size();
  EXPECT_EQ(bytes, piece.size());
  EXPECT_LT(scratch.operations, static_cast<int64_t>(piece.size()) * 12);
}

TEST(BpeTest, IgnoreMergesTakesATokenThatMergesNeverMake) {
  testing::SmallJson small;
  small.json["model"]["vocab"]["bcd"] = 13;  // merges make b, cd of it
  const auto merged = small.Make();
  small.json["model"]["ignore_merges"] = true;
  const auto whole = small.Make();
  ASSERT_NE(merged, nullptr);
  ASSERT_NE(whole, nullptr);
  using T = Tokenizer;
  EXPECT_EQ(*merged->Encode("bcd", T::Special::kAsText, T::Begin::kNever), (Ids{1, 11}));
  EXPECT_EQ(*whole->Encode("bcd", T::Special::kAsText, T::Begin::kNever), (Ids{13}));
  EXPECT_EQ(*whole->Encode("abcd", T::Special::kAsText, T::Begin::kNever), (Ids{8, 11}));
}

}  // namespace
}  // namespace vernier
