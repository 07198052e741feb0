// The buffers of a step: everything that CpuBackend touches between Execute and Synchronize.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/buffer.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/sample_row.h"

namespace vernier {

// Rows of activations and the memory behind them.
struct RowBuffer {
  Buffer memory;
  int64_t rows = 0;
  int64_t stride = 0;  // floats
  Rows view() const { return {memory.floats(), stride}; }
};

// Allocated once. Rows that are inputs of products are padded to PaddedCols and zero there.
struct Workspace {
  WorkspacePlan plan;
  int64_t q_cols = 0;               // heads * head_dim
  int64_t kv_cols = 0;              // kv heads * head_dim
  RowBuffer residual;               // [max_rows, hidden]
  RowBuffer x;                      // [max_rows, hidden padded] norm of the residual
  RowBuffer q;                      // [max_rows, q_cols]
  RowBuffer k;                      // [max_rows, kv_cols]
  RowBuffer v;                      // [max_rows, kv_cols]
  RowBuffer attention;              // [max_rows, q_cols padded]
  RowBuffer hidden;                 // [max_rows, intermediate padded]
  RowBuffer rotary;                 // [max_rows, head_dim] cosines, then sines, of the row's angles
  RowBuffer logits[kLogitBuffers];  // [max_logit_rows, vocab]
  RowBuffer x_tiles;                // [LinearTileRows, widest of x, attention and hidden]
  RowBuffer x_digits;               // [LinearDigitRows, DigitFloats of the widest]
  RowBuffer linear_scratch;         // [threads, LinearScratchFloats]
  RowBuffer attention_scratch;      // [threads, AttentionScratchFloats]
  RowBuffer attention_parts;        // [AttentionParts, AttentionPartFloats]
  Buffer kv;
  int64_t kv_block_bytes = 0;
  std::vector<SampleScratch> sampling;  // [threads]
  std::vector<AttentionTask> tasks;     // capacity max_rows

  // All but the cache.
  int64_t bytes() const;
};

// For the threads of `pool`, which idles: all of them touch the memory. INVALID_ARGUMENT for sizes
// that make no model, RESOURCE_EXHAUSTED with the bytes wanted.
absl::StatusOr<Workspace> NewWorkspace(const WorkspacePlan& plan, const KernelTable& kernels,
                                       ThreadPool* pool);

}  // namespace vernier
