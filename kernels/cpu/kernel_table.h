// The kernels of one instruction set, as one table of plain functions.
//
// This header is included by files that are compiled for AVX2, AVX-512 and AMX. It must stay free
// of functions and of the standard library's templates: the linker could keep a copy of one that an
// older processor cannot run.
#pragma once

#include <stdint.h>

namespace vernier {

inline constexpr int kPanelRows = 8;   // weight rows that are packed side by side
inline constexpr int kChunk = 16;      // consecutive inputs of one row that are packed together
inline constexpr int kNf4Chunk = 64;   // the same for NF4: a block of one scale
inline constexpr int kMaxDotRows = 6;  // rows of x that one pass over a panel serves
inline constexpr int kKeyBlock = 32;   // keys of one attention step; equals kBlockTokens

// What a panel holds side by side: kChunk inputs of each of kPanelRows rows (DotKernels), or
// kTileRows rows' weights of one input (TileKernels) or of four (DigitKernels).
enum class PanelOrder : uint8_t { kRows, kPairs, kQuads };

// How weights are encoded in a panel; kernels/cpu/README.md has the bytes.
enum class PanelLayout : uint8_t { kF32, kF16, kBF16, kInt8, kNf4, kNf4Dq, kNf4Straddled };
inline constexpr int kNumPanelLayouts = 7;

// Products by a matrix unit (AMX): tiles of 16 weight rows and kTileCols inputs, of bf16.
inline constexpr int kTileCols = 32;     // inputs of one tile
inline constexpr int kTileRows = 16;     // weight rows of one tile, and rows of x of one group
inline constexpr int kTileOutputs = 32;  // weight rows of one product: two tiles, two panels
inline constexpr int kTileSize = kTileRows * kTileCols;  // elements
inline constexpr int kTileParts = 2;                     // of x, see TileKernels
inline constexpr int kMaxWeightParts = 3;
inline constexpr int kMaxFewRows = 2;    // rows of x up to which vectors are as fast as the unit
inline constexpr int kMaxPlainRows = 8;  // the same of vectors that need not give the unit's bits

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

// The products of a matrix unit, which multiplies bf16 and adds in fp32, over panels of kTileRows
// rows (PanelOrder::kPairs).
//
// An fp32 x is split into the bf16 nearest to it and the bf16 nearest to what that leaves, so it
// keeps 16 bits; a product is the sum of both parts' products. Or x is one part, rounded with ties
// to even. A weight that bf16 cannot hold (fp16, fp32) is split exactly, and products of two small
// parts are left out. For each kTileCols inputs, ascending, a sum takes its parts in a fixed order,
// whatever is computed beside it. Few rows of x are multiplied by vectors, to the same bits.
struct TileKernels {
  // kTileOutputs weight rows times up to kMaxFewRows rows of x.
  struct FewRows {
    const Panel* panels;  // [num_panels]
    int num_panels;       // 1 or 2
    // [rows][x_stride], as split_few leaves them, or the first alone; plain: the first, as it was.
    const float* x[kTileParts];
    int64_t x_stride;
    float* sums;  // [panel][kTileRows rows of x][kTileRows weight rows]; set for the rows there are
  };
  struct OfLayout {
    int weight_parts;
    // Inputs [first_col, first_col + cols), multiples of kTileCols, of a panel to one of the tiles
    // [cols / kTileCols][parts][kTileOutputs / kTileRows]: [pair of inputs][weight row][2], where
    // input k of a step is paired with k + kTileCols / 2.
    void (*decode)(const Panel& panel, int64_t first_col, int64_t cols, uint16_t* tiles);
    // By parts of x and rows, each - 1; null where one part is not asked for.
    void (*multiply_few[kTileParts][kMaxFewRows])(const FewRows& product);
    // By rows - 1: whole products in fp32, faster than multiply_few and to other bits. A lane is a
    // weight row; it adds inputs in an order that depends on the number of rows.
    void (*multiply_plain[kMaxPlainRows])(const FewRows& product);
  };
  OfLayout layouts[kNumPanelLayouts];
  // Rows of x, at most kTileRows, to tiles [cols / kTileCols] of each part: [row of x][pair of
  // inputs][2]. Other rows are left as they are. By their number of parts - 1.
  void (*split[kTileParts])(const float* x, int64_t stride, int rows, int64_t cols,
                            uint16_t* const* parts);
  // One row of x, its parts as fp32 [cols]; likewise.
  void (*split_few[kTileParts])(const float* x, int64_t cols, float* const* parts);
  // Between these calls the thread may multiply tiles, of `rows` rows of x.
  void (*begin)(int64_t rows);
  void (*end)();
  // Between these calls vectors take subnormals as 0, as the matrix unit does; `before` is what
  // begin_flushing returned.
  unsigned (*begin_flushing)();
  void (*end_flushing)(unsigned before);
  // sums[group][tile][kTileRows rows of x][kTileRows weight rows] (+)= x w^T for `groups` (1 or 2)
  // groups of x, whose parts lie at x[part] + group * x_group; by the parts of x and of the
  // weight, each - 1. Null where a weight has several parts and x one.
  // Between calls for the same sums these may stay in the unit: then only the first zeroes and only
  // the last stores them.
  struct Product {
    const uint16_t* w;
    const uint16_t* x[kTileParts];
    int64_t x_group;  // elements from one group to the next
    int64_t steps;    // cols / kTileCols
    int groups;
    bool zero, load, store;
    float* sums;
  };
  void (*multiply[kTileParts][kMaxWeightParts])(const Product& product);
};

// Products of a panel of bf16, in the order kRows, with rows of x in bf16: two inputs at once, sums
// in fp32. Lane l of 8 adds inputs 2 l + 1, then 2 l of each kChunk, ascending, as VDPBF16PS does;
// then a fixed tree adds the lanes, whatever the number of rows.
struct RoundedKernels {
  // As DotKernels::Dot; x[m] begins at x + m * x_stride.
  using Dot = void (*)(const Panel& panel, const uint16_t* x, int64_t x_stride, float* sums);
  Dot dot[kMaxDotRows];  // [rows - 1]
  // n inputs of a row of x, a multiple of kTileCols, to the nearest bf16, ties to even; a NaN stays
  // one.
  void (*round)(const float* x, int64_t n, uint16_t* out);
};

// Products in whole numbers, which are the same in whatever order they are added: a row of x
// becomes 16-bit numbers of one scale, x = scale * (256 high + low), and both of these digits
// multiply 8-bit weights. Where x may be int8, kDigitCols inputs of a row have a scale, x = scale *
// digit, and two rows take the place of one's two digits: a line. What is added in fp32, ascending,
// is a product of as many columns as have one scale, kDigitBlock at most.
inline constexpr int kDigitLines = 8;                            // lines of x in a group
inline constexpr int kDigitGroupRows = 2 * kDigitLines;          // rows of a group, at most
inline constexpr int kDigitCols = 64;                            // inputs of a step
inline constexpr int kDigitTile = 2 * kDigitLines * kDigitCols;  // bytes of a group's step
inline constexpr int kStepStarts = 2 * kDigitLines;              // DigitRows::starts of a step
inline constexpr int kDigitPanels = 2;              // weight panels of one product, at most
inline constexpr int64_t kDigitBlock = 32768;       // columns whose sums fit 32 bits
inline constexpr int64_t kDigitScratchCols = 1024;  // columns that are decoded at once

// Rows of x as digits; missing rows of the last group hold anything.
struct DigitRows {
  // [group][step][half: high, low, or a line's first and second row][kDigitLines][kDigitCols]
  uint8_t* tiles;
  // [rows], or [group][step][half][kDigitLines]; NaN where x is not finite.
  float* scales;
  // [group][step][half][kDigitLines]: -128 times the sum of the digits.
  int32_t* starts;
  int64_t rows;
  int64_t steps;    // columns / kDigitCols, the last padded with zeros
  int line_rows;    // 1: two digits a row, 2: one
  bool by_vectors;  // as DigitKernels::vector_lines says
};

// Sums of up to kDigitPanels panels, as of TileKernels' tiles: [group of kTileRows rows of
// x][panel][kTileRows rows of x][kTileRows weight rows], row scales of int8 not applied.
struct DigitProduct {
  Panel panels[kDigitPanels];  // all are read
  int num_panels;              // of which sums are stored
  DigitRows x;
  uint8_t* scratch;  // [kDigitScratchBytes]
  float* sums;
};
// Codes of a byte and fp32 absmax.
inline constexpr int64_t kDigitScratchBytes =
    kDigitPanels * (kDigitScratchCols * kTileRows + kDigitScratchCols / kDigitCols * kTileRows * 4);

struct DigitKernels {
  // Up to so many lines of x are multiplied by vectors.
  int64_t vector_lines;
  // At most kDigitLines lines of fp32 x to the first group of `to`.
  void (*split)(const float* x, int64_t stride, const DigitRows& to);
  // By PanelLayout; null where the layout is not multiplied so.
  void (*multiply[kNumPanelLayouts])(const DigitProduct& product);
  // Between these calls the thread may multiply.
  void (*begin)();
  void (*end)();
};

// scores[i * kKeyBlock + j] = scale * q_i . key_j * scales[j]; a sum takes the even inputs, then
// the odd ones, each ascending.
struct KeyScores {
  int count;       // queries
  const float* q;  // [count][q_stride]
  int64_t q_stride;
  int64_t n;            // inputs; any
  const void* keys;     // [n][kKeyBlock]
  const float* scales;  // [kKeyBlock]
  float scale;
  float* scores;  // [count][kKeyBlock]
};

// A step of the running softmax of each query: scores [first, last) become p * scales, p =
// exp(score - max), where max has grown to the largest of them; keep is the exponential of what it
// has grown by, negated; total = total * keep + the sum of p. Other scores become anything.
struct SoftmaxStep {
  int count;            // queries
  float* scores;        // [count][kKeyBlock]
  const float* scales;  // [kKeyBlock]
  int first, last;
  float* max;    // [count], -infinity before the first step
  float* total;  // [count]
  float* keep;   // [count]
};

// sums_i = sums_i * keep_i + sum over j in [first, last), ascending, of p_i[j] * values[j].
struct WeightedValues {
  int count;       // queries
  const float* p;  // [count][kKeyBlock]
  int first, last;
  const void* values;  // [kKeyBlock][n]
  int64_t n;           // a multiple of kChunk
  const float* keep;   // [count]
  float* sums;         // [count][n]
};

// n is a multiple of kChunk unless said otherwise; buffers need no alignment.
struct KernelTable {
  // A layout has products of one kind, and is packed for them (OrderOf).
  DotKernels dots[kNumPanelLayouts];
  DotKernels decoded;          // of what DotKernels::decode left
  const TileKernels* tiles;    // null where there is no matrix unit
  const DigitKernels* digits;  // null where bytes have no products
  // Null where bf16 has no products: fp32 kernels multiply what x is rounded to. Else there are
  // `digits` too.
  const RoundedKernels* rounded;

  // out = x / sqrt(mean(x^2) + epsilon) * weight (+ bias); any n. in == out is allowed.
  void (*rms_norm)(const float* x, const float* weight, const float* bias, float epsilon, int64_t n,
                   float* out);
  // out = (x - mean) / sqrt(variance + epsilon) * weight (+ bias); any n.
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float epsilon,
                     int64_t n, float* out);

  // gate = act(gate) * up; up null: gate = act(gate). By ActivationKind.
  void (*activate[3])(float* gate, const float* up, int64_t n);

  // Keys and values from and to the cache, by KvType, without their scales: store keeps
  // in * inverse; any n.
  void (*load[4])(const void* in, int64_t n, float* out);
  void (*store[4])(const float* in, int64_t n, float inverse, void* out);
  // The largest magnitude; NaN when a value is not finite. Any n.
  float (*largest)(const float* in, int64_t n);

  // Attention of a few queries, 1 to `max_queries`, over one block of keys. What a query gets is
  // the same for every number of them, and whether the block is read as the cache has it or was
  // loaded before (as fp32). By KvType.
  int max_queries;
  void (*score_keys[4])(const KeyScores& args);
  void (*soften)(const SoftmaxStep& args);
  void (*add_values[4])(const WeightedValues& args);
};

const KernelTable& PortableKernels();
// Only where the build has them (VERNIER_CPU_X86) and CpuSupports says so.
const KernelTable& Avx2Kernels();
const KernelTable& Avx512Kernels();
const KernelTable& Avx512Bf16Kernels();
const KernelTable& AmxKernels();

}  // namespace vernier
