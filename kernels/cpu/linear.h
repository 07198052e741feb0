// Products of a batch of rows with packed weights, spread over the threads.
//
// A weight's panels are read once for all rows of x, as the kernels of its order read them
// (kernel_table.h). Their sums are the same for every number of rows.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/backend.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/unit_products.h"

namespace vernier {

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
  Rows scratch;  // [threads][LinearScratchFloats]
  Rows x_tiles;  // [LinearTileRows][widest padded cols] where there is a matrix unit
  // [LinearDigitRows][DigitFloats of the widest] where bytes have products; or as many rows in
  // bf16.
  Rows x_digits;
  Activations activations = Activations::kFull;  // of the call
  bool fast = false;  // few rows need not give the bits that the matrix unit gives many
};

// Floats of one thread's scratch for weights of at most `cols` columns and x of at most `rows`
// rows; -1 when that overflows.
int64_t LinearScratchFloats(int64_t cols, int64_t rows);

// Rows of LinearRuntime::x_tiles and x_digits for x of at most `rows` rows; -1 when that overflows.
int64_t LinearTileRows(const KernelTable& kernels, int64_t rows);
int64_t LinearDigitRows(const KernelTable& kernels, int64_t rows);
// Floats of one row of x_digits.
int64_t DigitFloats(int64_t cols);

// x [num_rows, padded cols] of all projections, zero past each weight's cols. With bf16 activations
// and weights of bf16 alone, x may become what it was rounded to.
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

}  // namespace vernier
