#include "kernels/cpu/packed_weight.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/quantize.h"

namespace vernier {
namespace {

// Rows of a chunk are a multiple of this, so that chunks begin at a panel and, in the flattened
// weight, at an NF4 block.
constexpr int64_t kChunkRowUnit = 64;
constexpr int64_t kChunkValues = int64_t{1} << 19;  // 2 MB of fp32 a thread

// ---- Layouts ----

// In the order kInputs an input's weights come after those of the input that it is paired with.
int64_t PlaceOfInput(int64_t col) {
  constexpr int64_t kPairs = kTileCols / 2;
  return col / kTileCols * kTileCols + col % kPairs * 2 + col % kTileCols / kPairs;
}

// `matrix`'s rows begin at `first_row` of the weight, as in all that follow.
template <int kBytes>
void PackRowRuns(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out) {
  for (int64_t row = 0; row < matrix.rows; ++row) {
    const int64_t packed_row = first_row + row;
    uint8_t* panel = out->panels.data() + packed_row / kPanelRows * out->panel_bytes;
    uint8_t* to = panel + packed_row % kPanelRows * kChunk * kBytes;
    const uint8_t* from = matrix.codes.data() + row * matrix.cols * kBytes;
    for (int64_t k = 0; k < matrix.cols; k += kChunk) {
      const int64_t count = std::min<int64_t>(kChunk, matrix.cols - k);
      std::memcpy(to + k * kPanelRows * kBytes, from + k * kBytes, count * kBytes);
    }
  }
}

template <int kBytes>
void PackInputs(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out) {
  const int64_t row_bytes = matrix.cols * kBytes;
  for (int64_t first = 0; first < matrix.rows; first += kTileRows) {
    const int64_t rows = std::min<int64_t>(kTileRows, matrix.rows - first);
    uint8_t* panel = out->panels.data() + (first_row + first) / kTileRows * out->panel_bytes;
    const uint8_t* from = matrix.codes.data() + first * row_bytes;
    for (int64_t k = 0; k < matrix.cols; ++k) {
      uint8_t* to = panel + PlaceOfInput(k) * kTileRows * kBytes;
      for (int64_t row = 0; row < rows; ++row) {
        std::memcpy(to + row * kBytes, from + row * row_bytes + k * kBytes, kBytes);
      }
    }
  }
}

template <int kBytes>
void PackElements(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out) {
  const auto pack = out->order == PanelOrder::kRows ? PackRowRuns<kBytes> : PackInputs<kBytes>;
  pack(matrix, first_row, out);
}

void PackInt8(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out) {
  PackElements<1>(matrix, first_row, out);
  std::copy(matrix.scales.begin(), matrix.scales.end(), out->row_scales.floats() + first_row);
}

// NF4 code 7 is the value 0: what padding decodes to.
constexpr uint8_t kNf4Zero = 7;

// The codes of one row, a byte each: `out` [padded_cols].
void UnpackNf4Row(const QuantizedMatrix& matrix, int64_t row, std::span<uint8_t> out) {
  const int64_t first = row * matrix.cols, cols = matrix.cols;
  const uint8_t* in = matrix.codes.data() + first / 2;
  int64_t col = 0;
  if (first % 2 != 0) out[col++] = *in++ & 15;
  for (; col + 2 <= cols; col += 2, ++in) {
    out[col] = *in >> 4;
    out[col + 1] = *in & 15;
  }
  if (col < cols) out[col++] = *in >> 4;
  std::fill(out.begin() + col, out.end(), kNf4Zero);
}

constexpr int kNf4Words = 16;  // of 8 codes; a row's two chunks, or two rows' last chunk

// Codes [groups][kNf4Words] into the nibbles of as many words: group g's at (g / 2 + g % 2 * 4), as
// dot-inl.h takes them out, plus `nibble`.
template <int kGroups>
void AddNf4Words(const uint8_t* codes, int nibble, uint8_t* words) {
  for (int word = 0; word < kNf4Words; ++word) {
    uint32_t bits = 0;
    for (int group = 0; group < kGroups; ++group) {
      const int place = kGroups == 8 ? group / 2 + group % 2 * 4 : nibble + group;
      bits |= static_cast<uint32_t>(codes[group * kNf4Words + word]) << (4 * place);
    }
    uint32_t there;
    std::memcpy(&there, words + 4 * word, sizeof(there));
    there |= bits;
    std::memcpy(words + 4 * word, &there, sizeof(there));
  }
}

void PackNf4RowRuns(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out) {
  constexpr int64_t kPair = 2 * kNf4Chunk, kPairBytes = kPair / 2 * kPanelRows;
  constexpr int64_t kWordBytes = kNf4Words * 4;
  std::vector<uint8_t> codes(out->padded_cols);
  for (int64_t row = 0; row < matrix.rows; ++row) {
    UnpackNf4Row(matrix, row, codes);
    const int64_t packed_row = first_row + row, slot = packed_row % kPanelRows;
    uint8_t* pair = out->panels.data() + packed_row / kPanelRows * out->panel_bytes;
    int64_t col = 0;
    for (; col + kPair <= out->padded_cols; col += kPair, pair += kPairBytes) {
      AddNf4Words<8>(codes.data() + col, 0, pair + slot * kWordBytes);
    }
    if (col < out->padded_cols) {
      const int nibble = static_cast<int>(slot % 2 * 4);
      AddNf4Words<4>(codes.data() + col, nibble, pair + slot / 2 * kWordBytes);
    }
  }
}

// For each kTileCols inputs [4][kTileRows] little-endian words of 32 bits: nibble i of word g is
// input 4 g + i, nibble 4 + i input 16 + 4 g + i.
void PackNf4Inputs(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out) {
  constexpr int64_t kGroups = 4, kPairs = kTileCols / 2;
  std::vector<uint8_t> codes(out->padded_cols);
  for (int64_t row = 0; row < matrix.rows; ++row) {
    UnpackNf4Row(matrix, row, codes);
    const int64_t packed_row = first_row + row;
    uint8_t* to = out->panels.data() + packed_row / kTileRows * out->panel_bytes +
                  packed_row % kTileRows * sizeof(uint32_t);
    for (int64_t col = 0; col < out->padded_cols; col += kTileCols) {
      for (int64_t g = 0; g < kGroups; ++g, to += kTileRows * sizeof(uint32_t)) {
        const uint8_t* from = codes.data() + col + 4 * g;
        uint32_t word = 0;
        for (int i = 0; i < 4; ++i) {
          word |= static_cast<uint32_t>(from[i]) << (4 * i);
          word |= static_cast<uint32_t>(from[kPairs + i]) << (4 * (4 + i));
        }
        std::memcpy(to, &word, sizeof(word));
      }
    }
  }
}

void PackNf4Codes(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out) {
  const auto pack = out->order == PanelOrder::kRows ? PackNf4RowRuns : PackNf4Inputs;
  pack(matrix, first_row, out);
}

// Behind the NF4 codes of a row's panel: [chunk][row] scales.
uint8_t* Nf4ScalesOf(int64_t row, PackedWeight* out) {
  return out->panels.data() + row / out->panel_rows() * out->panel_bytes +
         out->padded_cols * out->panel_rows() / 2;
}
int64_t ScaleIndex(const PackedWeight& weight, int64_t row, int64_t chunk) {
  return chunk * weight.panel_rows() + row % weight.panel_rows();
}

void PackNf4(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out) {
  PackNf4Codes(matrix, first_row, out);
  const int64_t chunks = out->padded_cols / kNf4Chunk;
  for (int64_t row = 0; row < matrix.rows; ++row) {
    auto* scales = reinterpret_cast<float*>(Nf4ScalesOf(first_row + row, out));
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      scales[ScaleIndex(*out, first_row + row, chunk)] = matrix.scales[row * chunks + chunk];
    }
  }
}

void PackNf4Straddled(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out) {
  PackNf4Codes(matrix, first_row, out);
  std::copy(matrix.scales.begin(), matrix.scales.end(),
            out->shared_scales.floats() + first_row * matrix.cols / kNf4Block);
}

void PackNf4Dq(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out) {
  PackNf4Codes(matrix, first_row, out);
  const int64_t chunks = out->padded_cols / kNf4Chunk;
  for (int64_t row = 0; row < matrix.rows; ++row) {
    uint8_t* codes = Nf4ScalesOf(first_row + row, out);
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      codes[ScaleIndex(*out, first_row + row, chunk)] = matrix.nested_codes[row * chunks + chunk];
    }
  }
  std::copy(matrix.nested_scales.begin(), matrix.nested_scales.end(), out->shared_scales.floats());
  out->offset = matrix.nested_offset;
}

// The straddled layout keeps plain absmax: double quantization is undone, value for value.
void PackNf4DqStraddled(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out) {
  PackNf4Codes(matrix, first_row, out);
  const std::span<const float, 256> map = DynamicMap();
  for (size_t block = 0; block < matrix.nested_codes.size(); ++block) {
    const float scale = matrix.nested_scales[block / kNestedBlock];
    out->shared_scales.floats()[block] =
        map[matrix.nested_codes[block]] * scale + matrix.nested_offset;
  }
}

// Floats behind Panel::scales. The kernels compute a scale's address for padded rows too.
int64_t NoScales(int64_t, int64_t) { return 0; }
int64_t StraddledScales(int64_t padded_rows, int64_t padded_cols) {
  return CheckedAdd(CheckedMultiply(padded_rows, padded_cols) / kNf4Block, 2);
}
int64_t NestedScales(int64_t padded_rows, int64_t padded_cols) {
  return CheckedAdd(CheckedMultiply(padded_rows, padded_cols) / kNf4Block / kNestedBlock, 1);
}

// How a format is packed where its blocks end with the rows, and where they do not.
struct Packing {
  PanelLayout layout;
  int64_t col_unit;      // padded_cols is a multiple of it
  int64_t bits;          // of one weight in the panel, scale included, times ...
  int64_t chunk_values;  // ... this many weights of a row
  int64_t row_scales;    // 1: one a row
  bool whole;            // the canonical copy cannot be made chunk by chunk
  int64_t (*shared_scales)(int64_t padded_rows, int64_t padded_cols);
  void (*pack)(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out);
};

struct PackingRow {
  FormatId format;
  Packing packing;
  Packing straddled;
};

constexpr Packing kPackF32 = {PanelLayout::kF32, kTileCols,      32, 1, 0, false,
                              NoScales,          PackElements<4>};
constexpr Packing kPackF16 = {PanelLayout::kF16, kTileCols,      16, 1, 0, false,
                              NoScales,          PackElements<2>};
constexpr Packing kPackBF16 = {PanelLayout::kBF16, kTileCols,      16, 1, 0, false,
                               NoScales,           PackElements<2>};
constexpr Packing kPackInt8 = {PanelLayout::kInt8, kTileCols, 8, 1, 1, false, NoScales, PackInt8};

constexpr PackingRow kPackings[kNumFormats] = {
    {FormatId::kF32, kPackF32, kPackF32},
    {FormatId::kF16, kPackF16, kPackF16},
    {FormatId::kBF16, kPackBF16, kPackBF16},
    {FormatId::kInt8, kPackInt8, kPackInt8},
    {FormatId::kNf4,
     {PanelLayout::kNf4, kNf4Chunk, 64 * 4 + 32, 64, 0, false, NoScales, PackNf4},
     {PanelLayout::kNf4Straddled, kNf4Chunk, 4, 1, 0, false, StraddledScales, PackNf4Straddled}},
    {FormatId::kNf4Dq,
     {PanelLayout::kNf4Dq, kNf4Chunk, 64 * 4 + 8, 64, 0, true, NestedScales, PackNf4Dq},
     {PanelLayout::kNf4Straddled, kNf4Chunk, 4, 1, 0, true, StraddledScales, PackNf4DqStraddled}},
};

const Packing& PackingOf(FormatId format, int64_t cols) {
  const PackingRow& row = kPackings[static_cast<int>(format)];
  VERNIER_CHECK(row.format == format);
  return cols % kNf4Block == 0 ? row.packing : row.straddled;
}

absl::StatusOr<std::shared_ptr<PackedWeight>> NewPackedWeight(const WeightSource& source,
                                                              const Packing& packing,
                                                              PanelOrder order) {
  auto weight = std::make_shared<PackedWeight>();
  weight->order = order;
  weight->layout = packing.layout;
  weight->rows = source.rows;
  weight->cols = source.cols;
  weight->padded_cols = CheckedRoundUp(source.cols, packing.col_unit);
  const int64_t padded_rows = CheckedRoundUp(source.rows, weight->panel_rows());
  const int64_t panel_bits = CheckedMultiply(
      weight->padded_cols / packing.chunk_values * weight->panel_rows(), packing.bits);
  weight->panel_bytes = CheckedRoundUp(panel_bits < 0 ? -1 : panel_bits / 8, 64);
  absl::StatusOr<Buffer> panels = Buffer::Allocate(
      CheckedMultiply(weight->panel_bytes, padded_rows / weight->panel_rows()), source.name);
  if (!panels.ok()) return panels.status();
  weight->panels = *std::move(panels);
  if (packing.row_scales > 0) {
    absl::StatusOr<Buffer> scales = Buffer::Allocate(CheckedMultiply(padded_rows, 4), source.name);
    if (!scales.ok()) return scales.status();
    weight->row_scales = *std::move(scales);
  }
  const int64_t shared = packing.shared_scales(padded_rows, weight->padded_cols);
  if (shared != 0) {
    absl::StatusOr<Buffer> scales = Buffer::Allocate(CheckedMultiply(shared, 4), source.name);
    if (!scales.ok()) return scales.status();
    weight->shared_scales = *std::move(scales);
  }
  return weight;
}

// ---- Reading ----

struct Target {
  FormatId format;
  const Packing* packing;
  std::shared_ptr<PackedWeight> weight;
};

absl::Status PackChunk(const WeightSource& source, int64_t first_row, int64_t count,
                       const std::vector<Target>& targets, std::vector<float>* values) {
  values->resize(count * source.cols);
  if (absl::Status status = source.read(first_row, count, values->data()); !status.ok()) {
    return status;
  }
  for (const Target& target : targets) {
    if (target.packing->whole) continue;
    const absl::StatusOr<QuantizedMatrix> matrix =
        QuantizeRows(source, target.format, first_row, *values);
    if (!matrix.ok()) return matrix.status();
    target.packing->pack(*matrix, first_row, target.weight.get());
  }
  return absl::OkStatus();
}

absl::Status PackChunks(const WeightSource& source, const std::vector<Target>& targets,
                        ThreadPool* pool) {
  const int64_t units_a_chunk =
      std::max<int64_t>(1, kChunkValues / std::max<int64_t>(1, source.cols) / kChunkRowUnit);
  const int64_t chunk_rows = units_a_chunk * kChunkRowUnit;
  const int64_t num_chunks = (source.rows + chunk_rows - 1) / chunk_rows;
  std::vector<absl::Status> statuses(pool->threads());
  pool->ParallelFor(num_chunks, [&](int thread, int64_t begin, int64_t end) {
    std::vector<float> values;
    for (int64_t chunk = begin; chunk < end && statuses[thread].ok(); ++chunk) {
      const int64_t first_row = chunk * chunk_rows;
      const int64_t count = std::min(chunk_rows, source.rows - first_row);
      statuses[thread] = PackChunk(source, first_row, count, targets, &values);
    }
  });
  for (const absl::Status& status : statuses) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

Panel PackedWeight::panel(int64_t index) const {
  return {.codes = panels.data() + index * panel_bytes,
          .first_row = index * panel_rows(),
          .cols = cols,
          .padded_cols = padded_cols,
          .scales = shared_scales.floats(),
          .offset = offset,
          .map = DynamicMap().data()};
}

int64_t PaddedCols(int64_t cols) { return CheckedRoundUp(cols, kNf4Chunk); }

absl::StatusOr<std::vector<Weight>> PackWeights(const WeightSource& source,
                                                std::span<const FormatId> formats, PanelOrder order,
                                                ThreadPool* pool) {
  if (source.rows < 1 || source.cols < 1) {
    return absl::InvalidArgumentError(absl::StrCat(source.name, " has shape [", source.rows, ", ",
                                                   source.cols, "], must be positive"));
  }
  std::vector<Target> targets;
  bool any_chunked = false;
  for (const FormatId format : formats) {
    const Packing& packing = PackingOf(format, source.cols);
    absl::StatusOr<std::shared_ptr<PackedWeight>> weight = NewPackedWeight(source, packing, order);
    if (!weight.ok()) return weight.status();
    targets.push_back({format, &packing, *std::move(weight)});
    any_chunked |= !packing.whole;
  }
  if (any_chunked) {
    if (absl::Status status = PackChunks(source, targets, pool); !status.ok()) return status;
  }
  for (const Target& target : targets) {
    if (!target.packing->whole) continue;
    const absl::StatusOr<QuantizedMatrix> matrix = Quantize(source, target.format);
    if (!matrix.ok()) return matrix.status();
    target.packing->pack(*matrix, 0, target.weight.get());
  }
  std::vector<Weight> weights;
  for (Target& target : targets) {
    const int64_t bytes = target.weight->bytes();
    weights.push_back({target.format, source.rows, source.cols, bytes, std::move(target.weight)});
  }
  return weights;
}

}  // namespace vernier
