// Products of a batch of rows with packed weights, spread over the threads.
//
// A weight's panel is read once for all rows: up to kMaxDotRows rows use its codes directly, more
// rows the panel decoded to fp32 in a scratch of the thread's own. Both add in the same order
// (kernel_table.h).
#pragma once

#include <cstdint>
#include <span>

#include "kernels/backend.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/thread_pool.h"

namespace vernier {

// Rows of activations: row m begins at data + m * stride.
struct Rows {
  float* data = nullptr;
  int64_t stride = 0;  // floats
  float* row(int64_t index) const { return data + index * stride; }
};

enum class Store : uint8_t { kSet, kAdd };

// out (set or +=) x W^T + bias.
struct Projection {
  const PackedWeight* weight = nullptr;
  const float* bias = nullptr;  // [weight rows, to a multiple of kPanelRows], or null
  Rows out;
  Store store = Store::kSet;
  float soft_cap = 0;  // > 0: cap * tanh(y / cap)
};

// What the calls below run with; all outlive the step.
struct LinearRuntime {
  const KernelTable* kernels = nullptr;
  ThreadPool* pool = nullptr;
  Rows scratch;  // [threads][2 * kPanelRows * widest padded cols]
};

// Floats of one thread's scratch for weights of at most `cols` columns; -1 when that overflows.
int64_t LinearScratchFloats(int64_t cols);

// x [num_rows, padded cols] of all projections, zero past each weight's cols.
void Project(const LinearRuntime& runtime, Rows x, int64_t num_rows,
             std::span<const Projection> projections);

// h = act(gate x) * (up x), or act(up x) without a gate; h is zeroed from the weight's rows to
// PaddedCols of them.
struct GatedArgs {
  const PackedWeight* gate = nullptr;  // null: none
  const float* gate_bias = nullptr;
  const PackedWeight* up = nullptr;
  const float* up_bias = nullptr;
  ActivationKind activation = ActivationKind::kSilu;
};
void ProjectGated(const LinearRuntime& runtime, Rows x, int64_t num_rows, const GatedArgs& args,
                  Rows h);

// out [weight.cols] = row `index` of the weight; `scratch` is one thread's.
void DecodeRow(const KernelTable& kernels, const PackedWeight& weight, int64_t index,
               float* scratch, float* out);

}  // namespace vernier
