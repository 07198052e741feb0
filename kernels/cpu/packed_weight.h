// A weight in the layout that the chosen CPU kernels read: panels of a few rows, one copy for every
// number of rows of x.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cpu/buffer.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/tensor.h"

namespace vernier {

// What Weight::packed points to. Immutable once made; any thread may read it.
struct PackedWeight {
  PanelLayout layout = PanelLayout::kF32;
  PanelOrder order = PanelOrder::kRows;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t padded_cols = 0;
  int64_t panel_bytes = 0;
  Buffer panels;         // [num_panels][panel_bytes]
  Buffer row_scales;     // int8: [num_panels * panel_rows] fp32; else empty
  Buffer shared_scales;  // fp32; what Panel::scales is for the layout; else empty
  float offset = 0;      // nf4-dq: mean of absmax

  int panel_rows() const { return order == PanelOrder::kRows ? kPanelRows : kTileRows; }
  int64_t num_panels() const { return (rows + panel_rows() - 1) / panel_rows(); }
  Panel panel(int64_t index) const;
  const float* scales_of(int64_t panel_index) const {
    return row_scales.data() == nullptr ? nullptr
                                        : row_scales.floats() + panel_index * panel_rows();
  }
  int64_t bytes() const { return panels.bytes() + row_scales.bytes() + shared_scales.bytes(); }
};

// Columns of x that every layout may read: the tail from `cols` on must be zero.
int64_t PaddedCols(int64_t cols);

// Packs one weight into each of `formats` for kernels that read `order`, as Backend::CreateWeights
// says. All formats but nf4-dq are quantized chunk by chunk of rows, each chunk read once; nf4-dq
// needs every scale before the first, so its canonical copy is whole for a while. `arenas`: by
// FormatId, or empty, where each weight has memory of its own.
absl::StatusOr<std::vector<Weight>> PackWeights(const WeightSource& source,
                                                std::span<const FormatId> formats,
                                                const KernelTable& kernels, ThreadPool* pool,
                                                std::span<Arena> arenas);

// Backend::Values.
std::optional<WeightSource> ValuesOf(const Weight& weight);

}  // namespace vernier
