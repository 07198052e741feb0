// Attention of a batch's rows over the paged cache, spread over the threads.
//
// A row takes its keys block by block, ascending from position 0 (or its window's first), with a
// running maximum and sum (Milakov and Gimelshein 2018) that begin anew every kSegmentKeys
// positions; these segments are merged in order. So its result depends on its own position and
// context alone, and a long context can be shared by several threads.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/buffer.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/thread_pool.h"

namespace vernier {

// The cache: [block][layer][K|V][kv_head] of a type that may differ from step to step, keys as
// [head_dim][kBlockTokens], so that a vector is one input of many keys, and values as
// [kBlockTokens][head_dim], each with its [kBlockTokens] scales behind it; blocks lie block_bytes
// apart, which the widest type needs.
struct KvCache {
  uint8_t* data = nullptr;
  int64_t block_bytes = 0;

  // What a block holds of one head; `value` 0 for keys, 1 for values.
  uint8_t* head(int64_t block, int layer, int value, int kv_head, const AttentionShape& shape,
                KvType type) const {
    const int64_t index = (int64_t{layer} * 2 + value) * shape.num_kv_heads + kv_head;
    return data + block * block_bytes + index * KvHeadBytes(shape, type);
  }
  // The scales of what head() returned, [kBlockTokens], for a type that has them.
  static float* scales(uint8_t* head, const AttentionShape& shape, KvType type) {
    return reinterpret_cast<float*>(head + int64_t{kBlockTokens} * shape.head_dim *
                                               TraitsOf(type).value_bytes);
  }
};

// Rows of one sequence that share the reading of keys and values.
struct AttentionTask {
  int32_t sequence = 0;
  int32_t first_row = 0;
  int32_t num_rows = 0;
};
inline constexpr int kAttentionTaskRows = 16;

// Keys whose softmax is summed by itself, by position: what one thread takes of a long context.
inline constexpr int64_t kSegmentKeys = 512;
inline constexpr int64_t kMaxAttentionParts = 4096;

struct AttentionRuntime {
  const KernelTable* kernels = nullptr;
  ThreadPool* pool = nullptr;
  Rows scratch;  // [threads][AttentionScratchFloats]
  Rows parts;    // [num_parts][AttentionPartFloats]
  int64_t num_parts = 0;
  KvCache cache;
};

// Floats of one thread's scratch; -1 when that overflows.
int64_t AttentionScratchFloats(const AttentionShape& shape);

// Floats of one segment of one row and kv head, and how many of them a workspace holds for contexts
// of `max_context` tokens; -1 when that overflows.
int64_t AttentionPartFloats(const AttentionShape& shape);
int64_t AttentionParts(int threads, int64_t max_context);

// The tasks of a batch, into `tasks`, whose capacity is the batch's rows.
void MakeAttentionTasks(const Batch& batch, std::vector<AttentionTask>* tasks);

// a [num_rows, heads * head_dim] from q of the same shape; a is zeroed to its padded columns.
void Attend(const AttentionRuntime& runtime, const Batch& batch, const AttentionArgs& args,
            const std::vector<AttentionTask>& tasks, Rows q, Rows a);

}  // namespace vernier
