// Which KV blocks are free, how many owners each of the others has, and what they hold. The bytes
// are the backend's.
//
// A block that nobody owns keeps what it holds, findable by prefix, until it is handed out again:
// blocks that hold nothing first, then the one unused for longest. An owner never writes to a block
// that it found. Every operation takes constant time a block.
//
// Used by the scheduler alone, on the device thread. Blocks are handed out in a fixed order, so a
// run can be repeated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/prefix_index.h"

namespace vernier {

class KvPool {
 public:
  // guaranteed[v]: blocks that variant v can have at any time, whatever the others use; a variant
  // past the end has none. REQUIRES: their sum is at most num_blocks.
  explicit KvPool(int64_t num_blocks, std::vector<int64_t> guaranteed = {});

  int64_t total() const { return static_cast<int64_t>(blocks_.size()); }
  // Without an owner, cached ones included.
  int64_t free() const { return static_cast<int64_t>(empty_.size()) + num_cached_; }
  // Without an owner, and holding what may be found.
  int64_t cached() const { return num_cached_; }
  // With an owner, that were allocated for a variant.
  int64_t used(int variant) const;
  // What a variant may still have: free blocks that are not kept for the others' guarantees. May be
  // negative after Share.
  int64_t Available(int variant) const;
  // Of what a variant may still have, what nobody else can get.
  int64_t Guaranteed(int variant) const;
  // More than its guarantee: taking from it gives to others.
  bool AboveGuarantee(int variant) const { return used(variant) > guarantee(variant); }

  // Appends `count` blocks, each with one owner, to `table`; false, and nothing taken, when fewer
  // are available.
  bool Allocate(int variant, int64_t count, std::vector<int32_t>* table);
  // Gives up one ownership of each block of `table`, last block first, and clears it.
  void Release(std::vector<int32_t>* table);

  // The blocks that hold the beginning of `tokens` behind `root`, whole blocks alone, in order.
  void Find(const PrefixId& root, std::span<const int32_t> tokens,
            std::vector<int32_t>* found) const;
  // Appends `found` to `table`, each with one owner more.
  void Share(std::span<const int32_t> found, std::vector<int32_t>* table);
  // Lets `block`, which has an owner, be found as `tokens` behind `parent`, unless another is
  // already. The parent of what comes next. REQUIRES: it is written and will not be again.
  PrefixId Insert(const PrefixId& parent, PrefixIndex::Tokens tokens, int32_t block);
  // The parent of what comes behind a block that was found.
  const PrefixId& IdOf(int32_t block) const { return index_.IdOf(block); }
  // Whether a block may be found.
  bool Findable(int32_t block) const { return index_.Contains(block); }

  // Blocks whose content nobody may read any more, as of the last call of this, in no order; a
  // block may be among them twice. Those that were given out since are, too.
  void TakeStale(std::vector<int32_t>* stale);

  // Owners of a block; 0 is free.
  int owners(int32_t block) const { return blocks_[static_cast<size_t>(block)].owners; }

 private:
  struct Block {
    int32_t owners = 0;
    int32_t variant = -1;                        // it was last allocated for
    int32_t less_recent = -1, more_recent = -1;  // neighbours among the cached ones
  };
  Block& at(int32_t block) { return blocks_[static_cast<size_t>(block)]; }
  int64_t guarantee(int variant) const;
  int32_t TakeFree();
  void Append(int32_t block);  // to the cached ones, as the most recent
  void Remove(int32_t block);  // from the cached ones

  std::vector<Block> blocks_;
  std::vector<int32_t> empty_;  // a stack of free blocks that hold nothing
  std::vector<int32_t> stale_;
  PrefixIndex index_;
  int32_t least_recent_ = -1, most_recent_ = -1;  // ends of the list of cached blocks
  int64_t num_cached_ = 0;
  const std::vector<int64_t> guaranteed_;  // by variant
  std::vector<int64_t> used_;              // by variant
};

}  // namespace vernier
