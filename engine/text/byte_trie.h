// A trie over bytes: which strings begin at a place, each in one walk.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace vernier {

// Immutable once filled: any thread.
class ByteTrie {
 public:
  ByteTrie() { values_.push_back(-1); }

  // REQUIRES: `key` not empty, `value` >= 0. A second value of a key replaces the first.
  void Add(absl::string_view key, int32_t value) {
    int32_t node = kRoot;
    for (const char c : key) {
      const auto [it, inserted] = edges_.emplace(Edge(node, c), static_cast<int32_t>(Size()));
      if (inserted) values_.push_back(-1);
      node = it->second;
    }
    values_[node] = value;
  }

  static constexpr int32_t kRoot = 0;
  // The node behind `node` and `c`, -1: no key goes on so.
  int32_t Next(int32_t node, char c) const {
    const auto it = edges_.find(Edge(node, c));
    return it == edges_.end() ? -1 : it->second;
  }
  // The value of the key that ends at `node`, -1: none does.
  int32_t ValueAt(int32_t node) const { return values_[node]; }

  int64_t bytes() const {
    return static_cast<int64_t>(edges_.capacity() * (sizeof(decltype(edges_)::value_type) + 1) +
                                values_.capacity() * sizeof(values_[0]));
  }

 private:
  size_t Size() const { return values_.size(); }
  static uint64_t Edge(int32_t node, char c) {
    return static_cast<uint64_t>(static_cast<uint32_t>(node)) << 8 | static_cast<uint8_t>(c);
  }

  absl::flat_hash_map<uint64_t, int32_t> edges_;  // node << 8 | byte, to node
  std::vector<int32_t> values_;                   // by node
};

}  // namespace vernier
