// Every buffer that steps use, allocated once, and the arrays of a batch on their way to the
// device.
//
// Device thread alone. Sizes are those of the WorkspacePlan; rows are rounded up to whole multiples
// of Multiplier::row_room, and buffers that hold activations of either type are as wide as fp32.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/device_buffer.h"
#include "kernels/cuda/device_types.h"
#include "kernels/cuda/module.h"
#include "kernels/cuda/outliers.h"

namespace vernier::cuda {

// Windows of the layers of a step, the lack of one included, for which decode's keys are shared out
// evenly; layers of others share them as if they had none.
inline constexpr int kMostWindows = 2;

KvCode CodeOf(KvType type);
// Whether all attention is LaunchCuts'.
inline bool TakesCuts(const CudaOptions& options) {
  return options.deterministic || options.portable;
}

// What a batch is to the kernels: its counts, and its arrays on the device.
struct DeviceBatch {
  int rows = 0;  // padding included
  int logit_rows = 0;
  int decode_rows = 0;
  int tiles = 0;      // runs of rows of one sequence
  int tile_rows = 0;  // of the largest
  KeyCuts cuts;       // of LaunchCuts
  // By window; the first is that of layers without one.
  DecodeSplit splits[kMostWindows];
  StepArrays arrays;

  const DecodeSplit& SplitOf(int window) const;
};

// Pinned memory in which a step leaves what the device reads later: handed out in order, all free
// again once the stream has been synchronized.
class Staging {
 public:
  absl::Status Create(int64_t bytes);
  // Null when `bytes` do not fit any more: synchronize, Reset, and ask again.
  uint8_t* Take(int64_t bytes);
  void Reset() { used_ = 0; }
  int64_t bytes() const { return buffer_.bytes(); }

 private:
  PinnedBuffer buffer_;
  int64_t used_ = 0;
};

struct Workspace {
  // RESOURCE_EXHAUSTED with the plan's bytes and what is free, before anything is allocated;
  // INVALID_ARGUMENT for a head size that no kernel takes, or more keys than decode can count.
  static absl::StatusOr<Workspace> Create(const WorkspacePlan& plan, int row_room);

  int64_t query_width() const {
    return int64_t{plan.attention.num_heads} * plan.attention.head_dim;
  }
  int64_t longest_x() const { return std::max({plan.hidden, query_width(), plan.intermediate}); }
  OutlierList OutliersOf() const { return OutlierListAt(outliers.as<void>(), longest_x()); }
  int64_t bytes() const;  // without the cache

  WorkspacePlan plan;
  int64_t kv_block_bytes = 0;

  DeviceBuffer residual;   // [rows, hidden] fp32
  DeviceBuffer x;          // [rows, max(hidden, query, intermediate)]: what a product reads
  DeviceBuffer x_scales;   // [rows] fp32, of int8 x
  DeviceBuffer outliers;   // OutlierListBytes of the longest row of x, zeros
  DeviceBuffer weighted;   // [kRows16Tokens, hidden] fp32, of few rows: residual * a norm's weight
  DeviceBuffer squares;    // [rows][kMostSquares] fp32, of few rows: parts of the residual's
  DeviceBuffer y;          // what it makes: [rows, most outputs], or [logit rows, vocab]
  DeviceBuffer query;      // [rows, heads * head_dim] fp32
  DeviceBuffer attention;  // [rows, heads * head_dim]
  DeviceBuffer hidden;     // [rows, intermediate]
  DeviceBuffer logits[kLogitBuffers];  // [logit rows, vocab] fp32
  DeviceBuffer adjusted;               // [logit rows, vocab] fp32, of Sample
  DeviceBuffer partials;               // of split attention
  DeviceBuffer arrivals;               // of those that split it: zeros between kernels
  DeviceBuffer kv;                     // [kv_blocks + 1, block]; the last takes what padding writes
  DeviceBuffer step;                   // the arrays of a batch
  DeviceBuffer calls;                  // the arguments of Sample and Score
  DeviceBuffer results;                // of Sample and Score
  Staging staging;                     // on its way to the device
  Staging returned;                    // results on their way to the host
};

// What a batch is laid out for.
struct BatchPlan {
  int rows = 0;  // that it is padded to; at least its own
  int logit_rows = 0;
  int window = 0;  // of the layers that have one; 0: none has
  KvType kv_type = KvType::kF16;
  bool cuts = false;  // all rows as tiles of LaunchCuts, padding too: there are no decode rows
};

// Copies a batch to workspace->step: padded, so that the addresses depend on these counts alone
// where every sequence has one row. `values` in pinned memory stay until the stream is
// synchronized. RESOURCE_EXHAUSTED when block tables are larger than their share of the workspace.
absl::StatusOr<DeviceBatch> UploadBatch(const Batch& batch, const BatchPlan& plan,
                                        cudaStream_t stream, Workspace* workspace);

}  // namespace vernier::cuda
