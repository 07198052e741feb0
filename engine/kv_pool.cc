#include "engine/kv_pool.h"

#include <algorithm>
#include <utility>

#include "kernels/base/check.h"

namespace vernier {

KvPool::KvPool(int64_t num_blocks, std::vector<int64_t> guaranteed)
    : blocks_(static_cast<size_t>(num_blocks)),
      index_(num_blocks),
      guaranteed_(std::move(guaranteed)),
      used_(guaranteed_.size()) {
  empty_.reserve(blocks_.size());
  for (int64_t block = num_blocks - 1; block >= 0; --block)
    empty_.push_back(static_cast<int32_t>(block));
}

int64_t KvPool::used(int variant) const {
  const size_t index = static_cast<size_t>(variant);
  return index < used_.size() ? used_[index] : 0;
}

int64_t KvPool::guarantee(int variant) const {
  const size_t index = static_cast<size_t>(variant);
  return index < guaranteed_.size() ? guaranteed_[index] : 0;
}

int64_t KvPool::Guaranteed(int variant) const {
  return std::max<int64_t>(0, guarantee(variant) - used(variant));
}

int64_t KvPool::Available(int variant) const {
  int64_t available = free();
  for (int other = 0; other < static_cast<int>(guaranteed_.size()); ++other) {
    if (other != variant) available -= Guaranteed(other);
  }
  return available;
}

bool KvPool::Allocate(int variant, int64_t count, std::vector<int32_t>* table) {
  if (count > Available(variant)) return false;
  const size_t index = static_cast<size_t>(variant);
  if (index >= used_.size()) used_.resize(index + 1);
  for (int64_t i = 0; i < count; ++i) {
    const int32_t block = TakeFree();
    at(block).owners = 1;
    at(block).variant = variant;
    ++used_[index];
    table->push_back(block);
  }
  return true;
}

int32_t KvPool::TakeFree() {
  if (!empty_.empty()) {
    const int32_t block = empty_.back();
    empty_.pop_back();
    return block;
  }
  const int32_t block = least_recent_;
  Remove(block);
  index_.Erase(block);
  stale_.push_back(block);
  return block;
}

void KvPool::TakeStale(std::vector<int32_t>* stale) {
  stale->clear();
  stale->swap(stale_);
}

void KvPool::Release(std::vector<int32_t>* table) {
  while (!table->empty()) {
    const int32_t block = table->back();
    table->pop_back();
    VERNIER_CHECK(at(block).owners > 0);
    if (--at(block).owners > 0) continue;
    --used_[static_cast<size_t>(at(block).variant)];
    if (index_.Contains(block)) {
      Append(block);
    } else {
      empty_.push_back(block);
      stale_.push_back(block);
    }
  }
}

void KvPool::Find(const PrefixId& root, std::span<const int32_t> tokens,
                  std::vector<int32_t>* found) const {
  found->clear();
  PrefixId parent = root;
  while (tokens.size() >= kBlockTokens) {
    const int32_t block = index_.Find(parent, tokens.first<kBlockTokens>());
    if (block < 0) return;
    found->push_back(block);
    parent = index_.IdOf(block);
    tokens = tokens.subspan(kBlockTokens);
  }
}

void KvPool::Share(std::span<const int32_t> found, std::vector<int32_t>* table) {
  for (const int32_t block : found) {
    if (at(block).owners++ == 0) {
      Remove(block);
      ++used_[static_cast<size_t>(at(block).variant)];
    }
    table->push_back(block);
  }
}

PrefixId KvPool::Insert(const PrefixId& parent, PrefixIndex::Tokens tokens, int32_t block) {
  VERNIER_CHECK(at(block).owners > 0);
  const int32_t same = index_.Find(parent, tokens);
  if (same >= 0) return index_.IdOf(same);
  index_.Insert(parent, tokens, block);
  return index_.IdOf(block);
}

void KvPool::Append(int32_t block) {
  at(block).less_recent = most_recent_;
  at(block).more_recent = -1;
  (most_recent_ >= 0 ? at(most_recent_).more_recent : least_recent_) = block;
  most_recent_ = block;
  ++num_cached_;
}

void KvPool::Remove(int32_t block) {
  const auto [owners, variant, less, more] = at(block);
  (less >= 0 ? at(less).more_recent : least_recent_) = more;
  (more >= 0 ? at(more).less_recent : most_recent_) = less;
  --num_cached_;
}

}  // namespace vernier
