// Where a token's head lies in the cache, for the host and for the device.
//
// A head's keys (or values) of a block are [kSlotsPerBlock][head_dim] codes, then [kSlotsPerBlock]
// fp32 scales where the codes have them: KvHeadBytes of backend.h. Within a slot the chunks of 16
// bytes change places, so that a bulk copy brings a head into shared memory as it is, and the eight
// slots that ldmatrix reads at one column still come from all 32 banks. Only this backend reads it.
#pragma once

#include <cstdint>

#include "kernels/cuda/packed_layout.h"

namespace vernier::cuda {

inline constexpr int kSlotsPerBlock = 32;  // kBlockTokens of backend.h

// Of KvType of the door.
enum class KvCode : uint8_t { kF32, kF16, kBF16, kInt8 };

VERNIER_HOST_DEVICE constexpr int CodeBytes(KvCode code) {
  return code == KvCode::kF32 ? 4 : code == KvCode::kInt8 ? 1 : 2;
}
VERNIER_HOST_DEVICE constexpr int ScaleBytes(KvCode code) { return code == KvCode::kInt8 ? 4 : 0; }

// One layer of the cache: [block][K|V][kv_head] of HeadBytes, blocks `block_bytes` apart.
struct KvLayer {
  uint8_t* data = nullptr;
  int64_t block_bytes = 0;
  KvCode code = KvCode::kF16;
  int64_t blocks = 0;
};

// Of all slots of one head, its keys or its values.
VERNIER_HOST_DEVICE constexpr int HeadBytes(KvCode code, int head_dim) {
  return kSlotsPerBlock * (head_dim * CodeBytes(code) + ScaleBytes(code));
}
VERNIER_HOST_DEVICE constexpr int64_t HeadOffset(KvCode code, int head_dim, int head) {
  return static_cast<int64_t>(head) * HeadBytes(code, head_dim);
}
VERNIER_HOST_DEVICE constexpr int ScaleOffset(KvCode code, int head_dim, int slot) {
  return kSlotsPerBlock * head_dim * CodeBytes(code) + slot * 4;
}

// Chunk c of a slot's `slot_bytes` lies at chunk c ^ Swizzle. Eight chunks fill all banks: where a
// slot's chunks are a multiple of 8, eight of them change places, by the slot; where they are of 4
// or 2 alone, 2 or 4 slots in a row begin in different banks, and 4 or 2 chunks change places. A
// slot of no whole chunks stays as it is.
VERNIER_HOST_DEVICE constexpr int Swizzle(int slot_bytes, int slot) {
  if (slot_bytes % 16 != 0) return 0;
  const int chunks = slot_bytes / 16;
  const int even = chunks & -chunks, exchanged = even < 8 ? even : 8;
  return slot / (8 / exchanged) % exchanged;
}
// Of code i of a slot, from the head's first byte.
VERNIER_HOST_DEVICE constexpr int CodeOffset(KvCode code, int head_dim, int slot, int i) {
  const int slot_bytes = head_dim * CodeBytes(code), byte = i * CodeBytes(code);
  return slot * slot_bytes + (byte / 16 ^ Swizzle(slot_bytes, slot)) * 16 + byte % 16;
}

}  // namespace vernier::cuda
