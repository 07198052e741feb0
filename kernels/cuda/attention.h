// Paged, causal, grouped-query attention with an optional window: a = softmax(scale q K^T) V.
//
// The keys of rows that hold one new token are shared out to blocks of threads (decode), runs of
// rows of one sequence share the keys that they read (prefill: one kernel for warpgroups and one
// for other sizes of heads), and what fits neither goes one head at a time in fp32 (plain). Decode
// and prefill multiply on the tensor cores: q and the weights of the softmax are rounded to the
// cache's 16-bit type, fp16 where it is int8; sums are fp32. All orders of summing are fixed: a
// row's result depends on its sequence alone, on where the decode split cuts it, and where there is
// a window, on the first row of its tile. LaunchCuts takes rows of both kinds, and there a row's
// result depends on its sequence alone. Device memory; launch errors are returned. Any thread may
// call.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/device_types.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/kv_layer.h"

namespace vernier::cuda {

// Memory that the kernel behind reads, 16-byte aligned.
struct ReadAhead {
  const uint8_t* data = nullptr;
  int64_t bytes = 0;
};

struct AttentionParameters {
  HeadShape shape;
  StepArrays step;
  KvLayer cache;
  const float* query = nullptr;  // [rows, heads * head_dim]
  Matrix out;                    // [rows, heads * head_dim]
  // The same times QueryScale and rounded to the cache's type, of `rows` rows: what
  // TakesWarpgroups wants instead.
  const void* rounded_query = nullptr;
  int rows = 0;
  // What q, and the newest key and value of each row, are to be made of; q.data null: `query` and
  // the cache hold them. LaunchDecode alone; nothing may change the batch's arrays, or the cache
  // but for those keys, while the kernels ahead on the stream run.
  HeadsParameters heads;
  // Of LaunchDecode that makes heads: its blocks of threads without keys bring this into the L2
  // cache, for which memory has time then.
  ReadAhead ahead;
};

inline constexpr int kMostHeadDim = 256;
// Softmax is to base 2.
constexpr float QueryScale(const HeadShape& shape) { return shape.scale * 1.4426950408889634f; }
inline constexpr int kDecodeHeads = 8;  // of a group, that a block of threads attends with

// Blocks of threads that a run of keys takes in decode.
constexpr int DecodeTiles(const HeadShape& shape) {
  const int group = shape.num_heads / shape.num_kv_heads;
  return shape.num_kv_heads * ((group + kDecodeHeads - 1) / kDecodeHeads);
}

// The rows with one new token, and how their keys are shared out in layers of one window.
struct DecodeSplit {
  int window = 0;                       // 0: none
  const DecodeRow* rows = nullptr;      // [decode rows]
  const DecodeShare* shares = nullptr;  // [kMostDecodeBlocks] of decode_plan.h
  int blocks = 0;                       // of threads, that have shares
  // [kMostDecodeBlocks][kPartialsPerBlock][kDecodeHeads][2 + head_dim]: largest score (base 2),
  // sum, unnormalized values.
  float* partials = nullptr;
  int* arrivals = nullptr;  // [kMostDecodeBlocks] zeros, and zeros again afterwards
};

// True where the tensor cores' kernels take a shape: head_dim 64, 96, 128 or 256, at most 64 heads
// to a key-value head, a cache of 8 or 16 bits.
bool HasTensorKernels(const HeadShape& shape, KvCode cache);

// Blocks of threads of decode that a multiprocessor has room for: codes of 8 bits take less room,
// and more arithmetic to hide. 1 where there are no tensor kernels.
int DecodeBlocksAtOnce(const HeadShape& shape, KvCode cache);
// REQUIRES: HasTensorKernels.
cudaError_t LaunchDecode(const AttentionParameters& p, const DecodeSplit& split,
                         cudaStream_t stream);
// Rows of the sequence that a tile may have at most. REQUIRES: HasTensorKernels, for both.
int PrefillTileRows(const HeadShape& shape, KvCode cache);
cudaError_t LaunchPrefill(const AttentionParameters& p, int tiles, cudaStream_t stream);

// Rows of both kinds as tiles, a single row of decode being one of one row; a tile of none is
// padding.
struct CutRows {
  int tiles = 0;      // StepArrays::tiles
  int tile_rows = 0;  // of the largest, at most CutTileRows
};
// Keys are cut at whole multiples of this. Longer cuts leave decode of few rows with few blocks of
// threads, shorter ones with more to merge.
inline constexpr int kCutKeys = 256;
// Whether cuts are a block of threads each (few rows), or one after the other: the bits are the
// same.
struct KeyCuts {
  float* partials = nullptr;  // [rows][heads][count][2 + head_dim]; null: one after the other
  int count = 1;              // of the row with the most
};
int CutTileRows(const HeadShape& shape);
// REQUIRES: HasTensorKernels, for both.
cudaError_t LaunchCuts(const AttentionParameters& p, const CutRows& rows, const KeyCuts& cuts,
                       cudaStream_t stream);

// Whether runs of rows go to the kernel of warpgroups (attention_warpgroup.cu), which LaunchPrefill
// and PrefillTileRows then lead to: HasTensorKernels, heads of 64 or 128 dimensions.
bool TakesWarpgroups(const HeadShape& shape, KvCode cache);
int WarpgroupTileRows(const HeadShape& shape);
cudaError_t LaunchWarpgroups(const AttentionParameters& p, int tiles, cudaStream_t stream);

struct PlainRows {
  const DecodeRow* decode = nullptr;  // [decode_rows]
  int decode_rows = 0;
  int tiles = 0;
  int tile_rows = 0;  // of the largest
};
// Both kinds of rows of any shape. REQUIRES: head_dim <= kMostHeadDim.
cudaError_t LaunchAttentionPlain(const AttentionParameters& p, const PlainRows& rows,
                                 cudaStream_t stream);

}  // namespace vernier::cuda
