#include "engine/kv_pool.h"

#include "kernels/base/check.h"

namespace vernier {

KvPool::KvPool(int64_t num_blocks) : owners_(static_cast<size_t>(num_blocks), 0) {
  free_.reserve(owners_.size());
  for (int64_t block = num_blocks - 1; block >= 0; --block)
    free_.push_back(static_cast<int32_t>(block));
}

bool KvPool::Allocate(int64_t count, std::vector<int32_t>* table) {
  if (count > free()) return false;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t block = free_.back();
    free_.pop_back();
    owners_[static_cast<size_t>(block)] = 1;
    table->push_back(block);
  }
  return true;
}

void KvPool::Release(std::vector<int32_t>* table) {
  while (!table->empty()) {
    const int32_t block = table->back();
    table->pop_back();
    int32_t& owners = owners_[static_cast<size_t>(block)];
    VERNIER_CHECK(owners > 0);
    if (--owners == 0) free_.push_back(block);
  }
}

}  // namespace vernier
