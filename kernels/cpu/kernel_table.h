// The kernels of one instruction set, as one table of plain functions.
//
// This header is included by files that are compiled for AVX2 and AVX-512. It must stay free of
// functions and of the standard library's templates: the linker could keep a copy of one that an
// older processor cannot run.
#pragma once

#include <stdint.h>

namespace vernier {

inline constexpr int kPanelRows = 8;   // weight rows that are packed side by side
inline constexpr int kChunk = 16;      // consecutive inputs of one row that are packed together
inline constexpr int kNf4Chunk = 64;   // the same for NF4: a block of one scale
inline constexpr int kMaxDotRows = 6;  // rows of x that one pass over a panel serves
inline constexpr int kKeyBlock = 32;   // keys of one attention step; equals kBlockTokens

// How a panel of kPanelRows weight rows is laid out; kernels/cpu/README.md has the bytes.
enum class PanelLayout : uint8_t { kF32, kF16, kBF16, kInt8, kNf4, kNf4Dq, kNf4Straddled };
inline constexpr int kNumPanelLayouts = 7;

// One panel of a packed weight, and what decoding it needs.
struct Panel {
  const uint8_t* codes;  // the panel's bytes, 64-byte aligned
  int64_t first_row;
  int64_t cols;
  int64_t padded_cols;  // a multiple of the layout's chunk; codes past cols decode to 0
  const float* scales;  // nf4-dq: second-level scales; straddled: absmax of the flattened weight
  float offset;         // nf4-dq: mean of absmax
  const float* map;     // nf4-dq: [256]
};

// The products of one panel with 1 to kMaxDotRows rows of x. The sum of an output is the same for
// every number of rows and for a decoded panel: lane l of kLanes adds w[k] * x[k] for k % kLanes ==
// l, ascending, and a fixed tree adds the lanes.
struct DotKernels {
  // sums[m * kPanelRows + r] = w[first_row + r] . x[m], row scales not applied. x[m] begins at
  // x + m * x_stride, fp32, zero from cols to padded_cols.
  using Dot = void (*)(const Panel& panel, const float* x, int64_t x_stride, float* sums);
  // The panel as one of layout kF32, [padded_cols / kChunk][kPanelRows][kChunk].
  using Decode = void (*)(const Panel& panel, float* out);
  Dot dot[kMaxDotRows];  // [rows - 1]; null where a panel must be decoded first
  Decode decode;         // null where it is fp32 already
};

// n is a multiple of kChunk unless said otherwise; buffers need no alignment.
struct KernelTable {
  DotKernels dots[kNumPanelLayouts];

  // out = x / sqrt(mean(x^2) + epsilon) * weight (+ bias); any n. in == out is allowed.
  void (*rms_norm)(const float* x, const float* weight, const float* bias, float epsilon, int64_t n,
                   float* out);
  // out = (x - mean) / sqrt(variance + epsilon) * weight (+ bias); any n.
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float epsilon,
                     int64_t n, float* out);

  // gate = act(gate) * up; up null: gate = act(gate). By ActivationKind.
  void (*activate[3])(float* gate, const float* up, int64_t n);

  // Keys and values from and to the cache, by ScalarType; any n.
  void (*load[3])(const void* in, int64_t n, float* out);
  void (*store[3])(const float* in, int64_t n, void* out);

  // scores[j] = scale * q . keys[j] for keys of `stride` floats, j in [0, kKeyBlock); n inputs.
  void (*score_keys)(const float* q, const float* keys, int64_t stride, int64_t n, float scale,
                     float* scores);
  // scores[j] = exp(scores[j] - max) for kKeyBlock scores; returns their sum.
  float (*exp_sum)(float* scores, float max);
  // acc = acc * keep + sum over j in [first, last), ascending, of p[j] * values[j].
  void (*add_values)(const float* p, int first, int last, const float* values, int64_t n,
                     float keep, float* acc);
};

const KernelTable& PortableKernels();
// Only where the build has them (VERNIER_CPU_X86) and CpuSupports says so.
const KernelTable& Avx2Kernels();
const KernelTable& Avx512Kernels();

}  // namespace vernier
