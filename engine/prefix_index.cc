#include "engine/prefix_index.h"

#include <openssl/sha.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

#include "kernels/base/check.h"

namespace vernier {
namespace {

uint64_t HashOf(const PrefixId& parent, PrefixIndex::Tokens tokens) {
  return XXH3_64bits_withSeed(tokens.data(), tokens.size_bytes(), parent.high ^ parent.low);
}

}  // namespace

PrefixId PrefixRoot(int variant, absl::string_view tenant, absl::string_view salt) {
  std::string text;
  for (const uint64_t number : {static_cast<uint64_t>(variant), uint64_t{tenant.size()}}) {
    text.append(reinterpret_cast<const char*>(&number), sizeof(number));
  }
  text.append(tenant.data(), tenant.size()).append(salt.data(), salt.size());
  unsigned char digest[SHA256_DIGEST_LENGTH];
  VERNIER_CHECK(SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest) !=
                nullptr);
  PrefixId root;
  std::memcpy(&root.high, digest, sizeof(root.high));
  std::memcpy(&root.low, digest + sizeof(root.high), sizeof(root.low));
  root.high |= 1;  // a block's id has 0 there
  return root;
}

PrefixIndex::PrefixIndex(int64_t num_blocks)
    : entries_(static_cast<size_t>(num_blocks)),
      table_(std::bit_ceil(2 * static_cast<size_t>(num_blocks) + 1), -1) {}

int32_t PrefixIndex::Find(const PrefixId& parent, Tokens tokens) const {
  const uint64_t hash = HashOf(parent, tokens);
  for (size_t at = Home(hash); table_[at] >= 0; at = Home(at + 1)) {
    const Entry& candidate = entry(table_[at]);
    if (candidate.hash == hash && candidate.parent == parent &&
        std::equal(tokens.begin(), tokens.end(), candidate.tokens.begin())) {
      return table_[at];
    }
  }
  return -1;
}

void PrefixIndex::Insert(const PrefixId& parent, Tokens tokens, int32_t block) {
  Entry& added = entries_[static_cast<size_t>(block)];
  VERNIER_CHECK(added.id == PrefixId{});
  added.id = {.high = 0, .low = ++last_id_};
  added.parent = parent;
  added.hash = HashOf(parent, tokens);
  std::copy(tokens.begin(), tokens.end(), added.tokens.begin());
  size_t at = Home(added.hash);
  while (table_[at] >= 0) at = Home(at + 1);
  table_[at] = block;
}

void PrefixIndex::Erase(int32_t block) {
  Entry& erased = entries_[static_cast<size_t>(block)];
  VERNIER_CHECK(erased.id != PrefixId{});
  size_t hole = Home(erased.hash);
  while (table_[hole] != block) hole = Home(hole + 1);
  // Those behind move up, so that no search ends before what it looks for (Knuth, 6.4, R).
  for (size_t at = Home(hole + 1); table_[at] >= 0; at = Home(at + 1)) {
    const size_t home = Home(entry(table_[at]).hash);
    const bool reachable = hole < at ? home > hole && home <= at : home > hole || home <= at;
    if (reachable) continue;
    table_[hole] = table_[at];
    hole = at;
  }
  table_[hole] = -1;
  erased.id = {};
}

}  // namespace vernier
