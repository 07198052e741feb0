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

// Code `code(row, k)` of every element of the panels that hold `matrix`'s rows, which begin at
// `first_row` of the weight.
template <int kBytes>
void PackElements(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out) {
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

void PackInt8(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out) {
  PackElements<1>(matrix, first_row, out);
  std::copy(matrix.scales.begin(), matrix.scales.end(), out->row_scales.floats() + first_row);
}

// NF4 code 7 is the value 0: what padding decodes to.
constexpr uint32_t kNf4Zero = 7;

// Where the code of an input lies in its panel: a word of 32 bits and a nibble of it (dot-inl.h).
struct Nf4Position {
  int64_t word;
  int nibble;
};

Nf4Position Nf4PositionOf(int64_t padded_cols, int slot, int64_t col) {
  constexpr int64_t kPair = 2 * kNf4Chunk, kWords = 16;
  const int64_t pair = col / kPair, first_word = pair * kPanelRows * kWords + col % kWords;
  const auto group = static_cast<int>(col % kPair / kWords);
  if ((pair + 1) * kPair <= padded_cols) {
    return {first_word + slot * kWords, group / 2 + group % 2 * 4};
  }
  return {first_word + slot / 2 * kWords, slot % 2 * 4 + group};
}

void PackNf4Codes(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out) {
  for (int64_t row = 0; row < matrix.rows; ++row) {
    const int64_t packed_row = first_row + row;
    uint8_t* panel = out->panels.data() + packed_row / kPanelRows * out->panel_bytes;
    const int slot = static_cast<int>(packed_row % kPanelRows);
    for (int64_t col = 0; col < out->padded_cols; ++col) {
      uint32_t code = kNf4Zero;
      if (col < matrix.cols) {
        const int64_t element = row * matrix.cols + col;
        const uint8_t byte = matrix.codes[element / 2];
        code = element % 2 == 0 ? byte >> 4 : byte & 15;
      }
      const Nf4Position position = Nf4PositionOf(out->padded_cols, slot, col);
      uint8_t* const at = panel + position.word * 4;
      uint32_t word = 0;
      std::memcpy(&word, at, sizeof(word));
      word |= code << (4 * position.nibble);
      std::memcpy(at, &word, sizeof(word));
    }
  }
}

int64_t Nf4CodeBytes(const PackedWeight& weight) { return weight.padded_cols * kPanelRows / 2; }

// Where the scale of one row and chunk lies behind the codes of its panel, in elements.
int64_t ScaleIndex(int64_t row, int64_t chunk) { return chunk * kPanelRows + row % kPanelRows; }

void PackNf4(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out) {
  PackNf4Codes(matrix, first_row, out);
  const int64_t chunks = out->padded_cols / kNf4Chunk;
  for (int64_t row = 0; row < matrix.rows; ++row) {
    uint8_t* panel =
        out->panels.data() + (first_row + row) / kPanelRows * out->panel_bytes + Nf4CodeBytes(*out);
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      reinterpret_cast<float*>(panel)[ScaleIndex(first_row + row, chunk)] =
          matrix.scales[row * chunks + chunk];
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
    uint8_t* panel =
        out->panels.data() + (first_row + row) / kPanelRows * out->panel_bytes + Nf4CodeBytes(*out);
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      panel[ScaleIndex(first_row + row, chunk)] = matrix.nested_codes[row * chunks + chunk];
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
                                                              const Packing& packing) {
  auto weight = std::make_shared<PackedWeight>();
  weight->layout = packing.layout;
  weight->rows = source.rows;
  weight->cols = source.cols;
  weight->padded_cols = CheckedRoundUp(source.cols, packing.col_unit);
  const int64_t padded_rows = CheckedRoundUp(source.rows, kPanelRows);
  const int64_t panel_bits =
      CheckedMultiply(weight->padded_cols / packing.chunk_values * kPanelRows, packing.bits);
  weight->panel_bytes = CheckedRoundUp(panel_bits < 0 ? -1 : panel_bits / 8, 64);
  absl::StatusOr<Buffer> panels =
      Buffer::Allocate(CheckedMultiply(weight->panel_bytes, padded_rows / kPanelRows), source.name);
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
  WeightSource chunk = SourceOf(*values, count, source.cols);
  chunk.name = source.name;
  for (const Target& target : targets) {
    if (target.packing->whole) continue;
    const absl::StatusOr<QuantizedMatrix> matrix = Quantize(chunk, target.format);
    if (!matrix.ok()) {
      // Quantizing the whole weight fails at the same value, and names its place in the weight.
      const absl::Status whole = Quantize(source, target.format).status();
      return whole.ok() ? matrix.status() : whole;
    }
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
          .first_row = index * kPanelRows,
          .cols = cols,
          .padded_cols = padded_cols,
          .scales = shared_scales.floats(),
          .offset = offset,
          .map = DynamicMap().data()};
}

int64_t PaddedCols(int64_t cols) { return CheckedRoundUp(cols, kNf4Chunk); }

absl::StatusOr<std::vector<Weight>> PackWeights(const WeightSource& source,
                                                std::span<const FormatId> formats,
                                                ThreadPool* pool) {
  if (source.rows < 1 || source.cols < 1) {
    return absl::InvalidArgumentError(absl::StrCat(source.name, " has shape [", source.rows, ", ",
                                                   source.cols, "], must be positive"));
  }
  std::vector<Target> targets;
  bool any_chunked = false;
  for (const FormatId format : formats) {
    const Packing& packing = PackingOf(format, source.cols);
    absl::StatusOr<std::shared_ptr<PackedWeight>> weight = NewPackedWeight(source, packing);
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
