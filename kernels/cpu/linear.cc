#include "kernels/cpu/linear.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/check.h"

namespace vernier {
namespace {

// Rows of x that pass over a panel together when there are more than one pass can take: three sums
// for each of the panel's rows fill the registers of AVX-512 and read each weight from cache once.
constexpr int kPanelPassRows = 3;

// A panel, decoded where that pays, with the kernels that multiply it.
struct ReadyPanel {
  Panel panel;
  const DotKernels* kernels;
  const float* row_scales;  // [kPanelRows] or null
  const float* bias;        // [kPanelRows] or null
  int64_t first_row;
  int valid_rows;
  int pass_rows;  // rows of x of one Multiply, at most

  // y[m * kPanelRows + r] for `count` rows of x.
  void Multiply(const float* x, int64_t x_stride, int count, float* y) const {
    kernels->dot[count - 1](panel, x, x_stride, y);
    if (row_scales != nullptr) {
      for (int i = 0; i < count * kPanelRows; ++i) y[i] *= row_scales[i % kPanelRows];
    }
    if (bias != nullptr) {
      for (int i = 0; i < count * kPanelRows; ++i) y[i] += bias[i % kPanelRows];
    }
  }
};

ReadyPanel Prepare(const KernelTable& kernels, const PackedWeight& weight, const float* bias,
                   int64_t index, int64_t num_rows, float* scratch) {
  ReadyPanel ready;
  ready.panel = weight.panel(index);
  ready.kernels = &kernels.dots[static_cast<int>(weight.layout)];
  ready.row_scales = weight.scales_of(index);
  ready.first_row = index * kPanelRows;
  ready.bias = bias == nullptr ? nullptr : bias + ready.first_row;
  ready.valid_rows = static_cast<int>(std::min<int64_t>(kPanelRows, weight.rows - ready.first_row));
  const bool one_pass = ready.kernels->dot[0] != nullptr && num_rows <= kMaxDotRows;
  ready.pass_rows = one_pass ? kMaxDotRows : kPanelPassRows;
  if (!one_pass && ready.kernels->decode != nullptr) {
    ready.kernels->decode(ready.panel, scratch);
    ready.panel.codes = reinterpret_cast<const uint8_t*>(scratch);
    ready.kernels = &kernels.dots[static_cast<int>(PanelLayout::kF32)];
  }
  return ready;
}

void StoreOutputs(const Projection& projection, const ReadyPanel& ready, int64_t first_row,
                  int count, float* y) {
  if (projection.soft_cap > 0) {
    for (int i = 0; i < count * kPanelRows; ++i) {
      y[i] = projection.soft_cap * std::tanh(y[i] / projection.soft_cap);
    }
  }
  for (int m = 0; m < count; ++m) {
    float* out = projection.out.row(first_row + m) + ready.first_row;
    const float* from = y + m * kPanelRows;
    if (projection.store == Store::kAdd) {
      for (int r = 0; r < ready.valid_rows; ++r) out[r] += from[r];
    } else {
      for (int r = 0; r < ready.valid_rows; ++r) out[r] = from[r];
    }
  }
}

// Of one Multiply; a multiple of kChunk, since activations work on whole chunks.
constexpr int64_t kMaxOutputs = int64_t{kMaxDotRows} * kPanelRows;
static_assert(kMaxOutputs % kChunk == 0);

}  // namespace

int64_t LinearScratchFloats(int64_t cols) {
  return CheckedMultiply(CheckedRoundUp(cols, kNf4Chunk), 2 * kPanelRows);
}

void Project(const LinearRuntime& runtime, Rows x, int64_t num_rows,
             std::span<const Projection> projections) {
  int64_t panels = 0;
  for (const Projection& projection : projections) panels += projection.weight->num_panels();
  runtime.pool->ParallelFor(panels, [&](int thread, int64_t begin, int64_t end) {
    alignas(64) float y[kMaxOutputs];
    int64_t first = 0;  // of the projection's panels, among all
    for (const Projection& projection : projections) {
      const int64_t last = first + projection.weight->num_panels();
      for (int64_t i = std::max(begin, first); i < std::min(end, last); ++i) {
        const ReadyPanel ready = Prepare(*runtime.kernels, *projection.weight, projection.bias,
                                         i - first, num_rows, runtime.scratch.row(thread));
        for (int64_t m = 0; m < num_rows; m += ready.pass_rows) {
          const int count = static_cast<int>(std::min<int64_t>(ready.pass_rows, num_rows - m));
          ready.Multiply(x.row(m), x.stride, count, y);
          StoreOutputs(projection, ready, m, count, y);
        }
      }
      first = last;
    }
  });
}

void ProjectGated(const LinearRuntime& runtime, Rows x, int64_t num_rows, const GatedArgs& args,
                  Rows h) {
  const auto activate = runtime.kernels->activate[static_cast<int>(args.activation)];
  const int64_t panels = args.up->num_panels();
  VERNIER_CHECK(args.gate == nullptr || args.gate->rows == args.up->rows);
  runtime.pool->ParallelFor(panels, [&](int thread, int64_t begin, int64_t end) {
    alignas(64) float gated[kMaxOutputs] = {};
    alignas(64) float up[kMaxOutputs] = {};
    float* scratch = runtime.scratch.row(thread);
    for (int64_t i = begin; i < end; ++i) {
      const ReadyPanel up_panel =
          Prepare(*runtime.kernels, *args.up, args.up_bias, i, num_rows, scratch);
      ReadyPanel gate_panel = up_panel;
      if (args.gate != nullptr) {
        gate_panel = Prepare(*runtime.kernels, *args.gate, args.gate_bias, i, num_rows,
                             scratch + kPanelRows * PaddedCols(args.up->cols));
      }
      const int pass_rows = std::min(gate_panel.pass_rows, up_panel.pass_rows);
      for (int64_t m = 0; m < num_rows; m += pass_rows) {
        const int count = static_cast<int>(std::min<int64_t>(pass_rows, num_rows - m));
        gate_panel.Multiply(x.row(m), x.stride, count, gated);
        if (args.gate != nullptr) up_panel.Multiply(x.row(m), x.stride, count, up);
        const int64_t outputs = (count * kPanelRows + kChunk - 1) / kChunk * kChunk;
        activate(gated, args.gate != nullptr ? up : nullptr, outputs);
        for (int j = 0; j < count; ++j) {
          std::copy_n(gated + j * kPanelRows, up_panel.valid_rows,
                      h.row(m + j) + up_panel.first_row);
        }
      }
      if (i != panels - 1) continue;
      for (int64_t m = 0; m < num_rows; ++m) {
        std::fill(h.row(m) + args.up->rows, h.row(m) + PaddedCols(args.up->rows), 0.0f);
      }
    }
  });
}

void DecodeRow(const KernelTable& kernels, const PackedWeight& weight, int64_t index,
               float* scratch, float* out) {
  const int64_t panel_index = index / kPanelRows;
  const Panel panel = weight.panel(panel_index);
  const DotKernels& dots = kernels.dots[static_cast<int>(weight.layout)];
  const float* decoded = reinterpret_cast<const float*>(panel.codes);
  if (dots.decode != nullptr) {
    dots.decode(panel, scratch);
    decoded = scratch;
  }
  const int64_t row = index % kPanelRows;
  const float* scales = weight.scales_of(panel_index);
  const float scale = scales == nullptr ? 1.0f : scales[row];
  for (int64_t k = 0; k < weight.cols; ++k) {
    out[k] = decoded[(k / kChunk * kPanelRows + row) * kChunk + k % kChunk] * scale;
  }
}

}  // namespace vernier
