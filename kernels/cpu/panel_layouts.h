// Where each layout and order of kernel_table.h puts the weights of a row: placing them, and
// reading them back. kernels/cpu/README.md has the bytes.
#pragma once

#include <cstdint>

#include "kernels/cpu/packed_weight.h"
#include "kernels/quantize.h"

namespace vernier {

// How `kernels` multiply a layout, and so how it is packed for them.
PanelOrder OrderOf(const KernelTable& kernels, PanelLayout layout);

// Rows of a matrix in the layout's format become rows `first_row` and on of `out`, whose buffers
// are allocated and zero.
void PlaceRows(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out);

// out [weight.cols] = one row, each value as Dequantize gives it.
void ReadRow(const PackedWeight& weight, int64_t row, float* out);

}  // namespace vernier
