// Which KV blocks are free and how many owners each of the others has. The
// bytes are the backend's.
//
// Used by the scheduler alone, on the device thread. Blocks are handed out in a
// fixed order, so a run can be repeated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace vernier {

class KvPool {
 public:
  explicit KvPool(int64_t num_blocks);

  int64_t total() const { return static_cast<int64_t>(owners_.size()); }
  int64_t free() const { return static_cast<int64_t>(free_.size()); }

  // Appends `count` blocks, each with one owner, to `table`; false, and nothing
  // taken, when fewer are free.
  bool Allocate(int64_t count, std::vector<int32_t>* table);
  // Gives up one ownership of each block of `table`, last block first, and
  // clears it.
  void Release(std::vector<int32_t>* table);

  // Owners of a block; 0 is free.
  int owners(int32_t block) const { return owners_[static_cast<size_t>(block)]; }

 private:
  std::vector<int32_t> owners_;  // by block
  std::vector<int32_t> free_;    // a stack
};

}  // namespace vernier
