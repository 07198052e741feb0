#include "kernels/cpu/panel_layouts.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/convert.h"
#include "kernels/nf4_values.h"

namespace vernier {
namespace {

// ---- Elements one after the other ----

// In the order kPairs an input's weights come after those of the input that it is paired with.
int64_t PlaceOfInput(int64_t col) {
  constexpr int64_t kPairs = kTileCols / 2;
  return col / kTileCols * kTileCols + col % kPairs * 2 + col % kTileCols / kPairs;
}

// Where a row's input lies in its panel, in elements.
int64_t PlaceOf(PanelOrder order, int64_t row, int64_t col) {
  switch (order) {
    case PanelOrder::kRows:
      return (col / kChunk * kPanelRows + row % kPanelRows) * kChunk + col % kChunk;
    case PanelOrder::kPairs:
      return PlaceOfInput(col) * kTileRows + row % kTileRows;
    case PanelOrder::kQuads:
      return (col / 4 * kTileRows + row % kTileRows) * 4 + col % 4;
  }
  VERNIER_CHECK(false);
}

// kRun: consecutive inputs that lie together.
template <int kBytes, int kRun>
void PlaceRuns(const uint8_t* from, PanelOrder order, int64_t row, int64_t cols, uint8_t* panel) {
  for (int64_t k = 0; k < cols; k += kRun) {
    uint8_t* to = panel + PlaceOf(order, row, k) * kBytes;
    if (k + kRun <= cols) {
      std::memcpy(to, from + k * kBytes, kRun * kBytes);
    } else {
      std::memcpy(to, from + k * kBytes, (cols - k) * kBytes);
    }
  }
}

uint8_t* PanelOf(const PackedWeight& weight, int64_t row) {
  return weight.panels.data() + row / weight.panel_rows() * weight.panel_bytes;
}

template <int kBytes>
void PlaceElements(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out) {
  for (int64_t row = 0; row < matrix.rows; ++row) {
    const uint8_t* from = matrix.codes.data() + row * matrix.cols * kBytes;
    const int64_t packed_row = first_row + row;
    uint8_t* panel = PanelOf(*out, packed_row);
    switch (out->order) {
      case PanelOrder::kRows:
        PlaceRuns<kBytes, kChunk>(from, PanelOrder::kRows, packed_row, matrix.cols, panel);
        break;
      case PanelOrder::kPairs:
        PlaceRuns<kBytes, 1>(from, PanelOrder::kPairs, packed_row, matrix.cols, panel);
        break;
      case PanelOrder::kQuads:
        PlaceRuns<kBytes, 4>(from, PanelOrder::kQuads, packed_row, matrix.cols, panel);
        break;
    }
  }
}

// ---- NF4 codes ----

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

void PlaceNf4Rows(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out) {
  constexpr int64_t kPair = 2 * kNf4Chunk, kPairBytes = kPair / 2 * kPanelRows;
  constexpr int64_t kWordBytes = kNf4Words * 4;
  std::vector<uint8_t> codes(out->padded_cols);
  for (int64_t row = 0; row < matrix.rows; ++row) {
    UnpackNf4Row(matrix, row, codes);
    const int64_t packed_row = first_row + row, slot = packed_row % kPanelRows;
    uint8_t* pair = PanelOf(*out, packed_row);
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

// Byte b of [8 inputs][kTileRows][4]: input b in the lower nibble, input 4 + b in the upper.
void PlaceNf4Quads(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out) {
  std::vector<uint8_t> codes(out->padded_cols);
  for (int64_t row = 0; row < matrix.rows; ++row) {
    UnpackNf4Row(matrix, row, codes);
    const int64_t packed_row = first_row + row;
    uint8_t* to = PanelOf(*out, packed_row) + packed_row % kTileRows * 4;
    for (int64_t col = 0; col < out->padded_cols; col += 8, to += kTileRows * 4) {
      uint32_t first, second;
      std::memcpy(&first, codes.data() + col, sizeof(first));
      std::memcpy(&second, codes.data() + col + 4, sizeof(second));
      const uint32_t both = first | second << 4;
      std::memcpy(to, &both, sizeof(both));
    }
  }
}

void PlaceNf4Codes(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out) {
  const auto place = out->order == PanelOrder::kRows ? PlaceNf4Rows : PlaceNf4Quads;
  place(matrix, first_row, out);
}

int Nf4Code(const PackedWeight& weight, int64_t row, int64_t col) {
  const uint8_t* panel = PanelOf(weight, row);
  const int64_t slot = row % weight.panel_rows();
  int64_t byte, nibble;
  if (weight.order == PanelOrder::kQuads) {
    byte = (col / 8 * kTileRows + slot) * 4 + col % 4;
    nibble = col / 4 % 2;
  } else {
    constexpr int64_t kPair = 2 * kNf4Chunk;
    const int64_t first = col / kPair * kPair, rest = col - first, word = rest % 16;
    const bool alone = first + kPair > weight.padded_cols;
    nibble = alone ? slot % 2 * 4 + rest / 16 : rest / 32 + rest / 16 % 2 * 4;
    byte = first * kPanelRows / 2 + ((alone ? slot / 2 : slot) * kNf4Words + word) * 4 + nibble / 2;
  }
  return panel[byte] >> (nibble % 2 * 4) & 15;
}

// ---- NF4 scales ----

// Behind the NF4 codes of a row's panel: [chunk][row] scales.
uint8_t* Nf4ScalesOf(const PackedWeight& weight, int64_t row) {
  return PanelOf(weight, row) + weight.padded_cols * weight.panel_rows() / 2;
}
int64_t ScaleIndex(const PackedWeight& weight, int64_t row, int64_t chunk) {
  return chunk * weight.panel_rows() + row % weight.panel_rows();
}

void PlaceNf4(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out) {
  PlaceNf4Codes(matrix, first_row, out);
  const int64_t chunks = out->padded_cols / kNf4Chunk;
  for (int64_t row = 0; row < matrix.rows; ++row) {
    auto* scales = reinterpret_cast<float*>(Nf4ScalesOf(*out, first_row + row));
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      scales[ScaleIndex(*out, first_row + row, chunk)] = matrix.scales[row * chunks + chunk];
    }
  }
}

void PlaceNf4Straddled(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out) {
  PlaceNf4Codes(matrix, first_row, out);
  std::copy(matrix.scales.begin(), matrix.scales.end(),
            out->shared_scales.floats() + first_row * matrix.cols / kNf4Block);
}

void PlaceNf4Dq(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out) {
  PlaceNf4Codes(matrix, first_row, out);
  const int64_t chunks = out->padded_cols / kNf4Chunk;
  for (int64_t row = 0; row < matrix.rows; ++row) {
    uint8_t* codes = Nf4ScalesOf(*out, first_row + row);
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      codes[ScaleIndex(*out, first_row + row, chunk)] = matrix.nested_codes[row * chunks + chunk];
    }
  }
  std::copy(matrix.nested_scales.begin(), matrix.nested_scales.end(), out->shared_scales.floats());
  out->offset = matrix.nested_offset;
}

// The straddled layout keeps plain absmax: double quantization is undone, value for value.
void PlaceNf4DqStraddled(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out) {
  PlaceNf4Codes(matrix, first_row, out);
  const std::span<const float, 256> map = DynamicMap();
  for (size_t block = 0; block < matrix.nested_codes.size(); ++block) {
    const float scale = matrix.nested_scales[block / kNestedBlock];
    out->shared_scales.floats()[block] =
        map[matrix.nested_codes[block]] * scale + matrix.nested_offset;
  }
}

float Nf4Absmax(const PackedWeight& weight, int64_t row, int64_t col) {
  const int64_t chunk = col / kNf4Chunk;
  const uint8_t* scales = Nf4ScalesOf(weight, row);
  switch (weight.layout) {
    case PanelLayout::kNf4:
      return reinterpret_cast<const float*>(scales)[ScaleIndex(weight, row, chunk)];
    case PanelLayout::kNf4Dq: {
      const int64_t block = row * (weight.padded_cols / kNf4Chunk) + chunk;
      const float nested = weight.shared_scales.floats()[block / kNestedBlock];
      return DynamicMap()[scales[ScaleIndex(weight, row, chunk)]] * nested + weight.offset;
    }
    default:
      return weight.shared_scales.floats()[(row * weight.cols + col) / kNf4Block];
  }
}

void ReadNf4Row(const PackedWeight& weight, int64_t row, float* out) {
  for (int64_t k = 0; k < weight.cols; ++k) {
    out[k] = kNf4Values[Nf4Code(weight, row, k)] * Nf4Absmax(weight, row, k);
  }
}

// ---- Reading elements ----

void CopyFloats(const uint8_t* values, int64_t n, float* out) { std::memcpy(out, values, n * 4); }

void Int8Floats(const uint8_t* values, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(static_cast<int8_t>(values[i]));
}

template <int kBytes>
void ReadElements(const PackedWeight& weight, int64_t row,
                  void (*floats)(const uint8_t* values, int64_t n, float* out), float* out) {
  constexpr int64_t kAtOnce = 64;
  const uint8_t* panel = PanelOf(weight, row);
  for (int64_t first = 0; first < weight.cols; first += kAtOnce) {
    const int64_t count = std::min(kAtOnce, weight.cols - first);
    uint8_t values[kAtOnce * kBytes];
    for (int64_t i = 0; i < count; ++i) {
      std::memcpy(values + i * kBytes, panel + PlaceOf(weight.order, row, first + i) * kBytes,
                  kBytes);
    }
    floats(values, count, out + first);
  }
}

void ReadInt8Row(const PackedWeight& weight, int64_t row, float* out) {
  ReadElements<1>(weight, row, Int8Floats, out);
  for (int64_t k = 0; k < weight.cols; ++k) out[k] *= weight.row_scales.floats()[row];
}

}  // namespace

PanelOrder OrderOf(const KernelTable& kernels, PanelLayout layout) {
  const auto index = static_cast<int>(layout);
  if (kernels.digits != nullptr && kernels.digits->multiply[index] != nullptr) {
    return PanelOrder::kQuads;
  }
  return kernels.tiles != nullptr && kernels.tiles->layouts[index].decode != nullptr
             ? PanelOrder::kPairs
             : PanelOrder::kRows;
}

void PlaceRows(const QuantizedMatrix& matrix, int64_t first_row, PackedWeight* out) {
  switch (out->layout) {
    case PanelLayout::kF32:
      return PlaceElements<4>(matrix, first_row, out);
    case PanelLayout::kF16:
    case PanelLayout::kBF16:
      return PlaceElements<2>(matrix, first_row, out);
    case PanelLayout::kInt8:
      PlaceElements<1>(matrix, first_row, out);
      std::copy(matrix.scales.begin(), matrix.scales.end(), out->row_scales.floats() + first_row);
      return;
    case PanelLayout::kNf4:
      return PlaceNf4(matrix, first_row, out);
    case PanelLayout::kNf4Dq:
      return PlaceNf4Dq(matrix, first_row, out);
    case PanelLayout::kNf4Straddled:
      return matrix.nested_codes.empty() ? PlaceNf4Straddled(matrix, first_row, out)
                                         : PlaceNf4DqStraddled(matrix, first_row, out);
  }
}

void ReadRow(const PackedWeight& weight, int64_t row, float* out) {
  switch (weight.layout) {
    case PanelLayout::kF32:
      return ReadElements<4>(weight, row, CopyFloats, out);
    case PanelLayout::kF16:
      return ReadElements<2>(weight, row, Convert().f32_from_f16, out);
    case PanelLayout::kBF16:
      return ReadElements<2>(weight, row, Convert().f32_from_bf16, out);
    case PanelLayout::kInt8:
      return ReadInt8Row(weight, row, out);
    default:
      return ReadNf4Row(weight, row, out);
  }
}

}  // namespace vernier
