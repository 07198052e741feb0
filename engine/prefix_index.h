// Finds the KV block that holds given tokens behind given others.
//
// A key is the parent's id and the block's own tokens, compared in full, and an id is never used
// twice: what is found was computed from exactly the tokens asked for, in the same variant and for
// the same tenant and salt. A hash that two keys share costs a comparison, never an answer. (vLLM
// compares chained hashes alone; CVE-2025-25183 is what a collision does there.)
//
// Device thread alone.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/strings/string_view.h"
#include "kernels/backend.h"

namespace vernier {

// Names what is behind: the root of a (variant, tenant, salt), or a cached block with all before
// it.
struct PrefixId {
  uint64_t high = 0;
  uint64_t low = 0;
  bool operator==(const PrefixId&) const = default;
};

// The empty prefix of those who may share a cache: 127 bits of SHA-256 over the three, so that
// nobody can make a tenant and salt that meet another's. The variant stands for its KV type too.
PrefixId PrefixRoot(int variant, absl::string_view tenant, absl::string_view salt);

class PrefixIndex {
 public:
  using Tokens = std::span<const int32_t, kBlockTokens>;

  explicit PrefixIndex(int64_t num_blocks);

  // The block that holds `tokens` behind `parent`; -1: none.
  int32_t Find(const PrefixId& parent, Tokens tokens) const;
  // REQUIRES: Find says -1, and `block` is not in the index.
  void Insert(const PrefixId& parent, Tokens tokens, int32_t block);
  // REQUIRES: Contains(block).
  void Erase(int32_t block);

  bool Contains(int32_t block) const { return entry(block).id != PrefixId{}; }
  // REQUIRES: Contains(block). The parent of the blocks behind it.
  const PrefixId& IdOf(int32_t block) const { return entry(block).id; }

 private:
  struct Entry {  // by block
    PrefixId id;  // zero: not in the index
    PrefixId parent;
    uint64_t hash = 0;
    std::array<int32_t, kBlockTokens> tokens;
  };
  const Entry& entry(int32_t block) const { return entries_[static_cast<size_t>(block)]; }
  // Where the search for `hash` begins.
  size_t Home(uint64_t hash) const { return static_cast<size_t>(hash) & (table_.size() - 1); }

  std::vector<Entry> entries_;
  std::vector<int32_t> table_;  // open addressing, at most half full; -1: empty
  uint64_t last_id_ = 0;
};

}  // namespace vernier
