// Batches of prefill and decode rows over scattered blocks, for tests of the backend door.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"

namespace vernier::testing {

// Arrays behind a Batch.
struct BatchArrays {
  std::vector<int32_t> ids, positions, slots, blocks, logit_rows;
  std::vector<SequenceRows> sequences;

  Batch View() const {
    return {.num_rows = static_cast<int>(ids.size()),
            .ids = ids,
            .positions = positions,
            .slots = slots,
            .sequences = sequences,
            .blocks = blocks,
            .logit_rows = logit_rows};
  }
};

// A sequence of tokens and where they lie in the cache.
struct PagedSequence {
  std::vector<int32_t> ids;     // by position
  std::vector<int32_t> blocks;  // of the cache, by position / kBlockTokens
};

// Blocks of the pool that no sequence uses: the first ones.
inline constexpr int kSpareBlocks = 2;

// Sequences of given lengths with ids of `vocab`. Blocks are dealt out in turns, the highest first,
// so those of a sequence are neither contiguous nor ascending.
inline std::vector<PagedSequence> MakeSequences(std::span<const int> lengths, int64_t vocab) {
  std::vector<PagedSequence> sequences(lengths.size());
  int32_t next = kSpareBlocks - 1;
  int longest = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    next += (lengths[i] + kBlockTokens - 1) / kBlockTokens;
    longest = std::max(longest, lengths[i]);
    for (int position = 0; position < lengths[i]; ++position) {
      sequences[i].ids.push_back(static_cast<int32_t>((i * 31 + position * 7 + 3) % vocab));
    }
  }
  for (int first = 0; first < longest; first += kBlockTokens) {
    for (size_t i = 0; i < lengths.size(); ++i) {
      if (first < lengths[i]) sequences[i].blocks.push_back(next--);
    }
  }
  return sequences;
}

inline int64_t PoolBlocks(std::span<const PagedSequence> sequences) {
  int64_t blocks = kSpareBlocks;
  for (const PagedSequence& sequence : sequences) {
    blocks += static_cast<int64_t>(sequence.blocks.size());
  }
  return blocks;
}

// Adds positions [first, last) of a sequence; none when they are empty.
inline void AppendRows(const PagedSequence& sequence, int first, int last, BatchArrays* batch) {
  if (first >= last) return;
  const int num_blocks = (last + kBlockTokens - 1) / kBlockTokens;
  batch->sequences.push_back({.first_row = static_cast<int32_t>(batch->ids.size()),
                              .num_rows = last - first,
                              .first_block = static_cast<int32_t>(batch->blocks.size()),
                              .num_blocks = num_blocks});
  batch->blocks.insert(batch->blocks.end(), sequence.blocks.begin(),
                       sequence.blocks.begin() + num_blocks);
  for (int position = first; position < last; ++position) {
    batch->ids.push_back(sequence.ids[position]);
    batch->positions.push_back(position);
    batch->slots.push_back(sequence.blocks[position / kBlockTokens] * kBlockTokens +
                           position % kBlockTokens);
  }
}

}  // namespace vernier::testing
