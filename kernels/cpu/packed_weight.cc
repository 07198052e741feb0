#include "kernels/cpu/packed_weight.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/cpu/panel_layouts.h"
#include "kernels/quantize.h"

namespace vernier {
namespace {

// Rows of a chunk are a multiple of this, so that chunks begin at a panel and, in the flattened
// weight, at an NF4 block.
constexpr int64_t kChunkRowUnit = 64;
constexpr int64_t kChunkValues = int64_t{1} << 19;  // 2 MB of fp32 a thread

// ---- Layouts ----

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
};

struct PackingRow {
  FormatId format;
  Packing packing;
  Packing straddled;
};

constexpr Packing kPackF32 = {PanelLayout::kF32, kTileCols, 32, 1, 0, false, NoScales};
constexpr Packing kPackF16 = {PanelLayout::kF16, kTileCols, 16, 1, 0, false, NoScales};
constexpr Packing kPackBF16 = {PanelLayout::kBF16, kTileCols, 16, 1, 0, false, NoScales};
constexpr Packing kPackInt8 = {PanelLayout::kInt8, kDigitCols, 8, 1, 1, false, NoScales};

constexpr PackingRow kPackings[kNumFormats] = {
    {FormatId::kF32, kPackF32, kPackF32},
    {FormatId::kF16, kPackF16, kPackF16},
    {FormatId::kBF16, kPackBF16, kPackBF16},
    {FormatId::kInt8, kPackInt8, kPackInt8},
    {FormatId::kNf4,
     {PanelLayout::kNf4, kNf4Chunk, 64 * 4 + 32, 64, 0, false, NoScales},
     {PanelLayout::kNf4Straddled, kNf4Chunk, 4, 1, 0, false, StraddledScales}},
    {FormatId::kNf4Dq,
     {PanelLayout::kNf4Dq, kNf4Chunk, 64 * 4 + 8, 64, 0, true, NestedScales},
     {PanelLayout::kNf4Straddled, kNf4Chunk, 4, 1, 0, true, StraddledScales}},
};

const Packing& PackingOf(FormatId format, int64_t cols) {
  const PackingRow& row = kPackings[static_cast<int>(format)];
  VERNIER_CHECK(row.format == format);
  return cols % kNf4Block == 0 ? row.packing : row.straddled;
}

absl::StatusOr<std::shared_ptr<PackedWeight>> NewPackedWeight(const WeightSource& source,
                                                              const Packing& packing,
                                                              const KernelTable& kernels,
                                                              Arena* arena) {
  auto weight = std::make_shared<PackedWeight>();
  weight->order = OrderOf(kernels, packing.layout);
  weight->layout = packing.layout;
  weight->rows = source.rows;
  weight->cols = source.cols;
  weight->padded_cols = CheckedRoundUp(source.cols, packing.col_unit);
  const int64_t padded_rows = CheckedRoundUp(source.rows, weight->panel_rows());
  const int64_t panel_bits = CheckedMultiply(
      weight->padded_cols / packing.chunk_values * weight->panel_rows(), packing.bits);
  weight->panel_bytes = CheckedRoundUp(panel_bits < 0 ? -1 : panel_bits / 8, 64);
  const auto allocate = [&](int64_t bytes) {
    return arena == nullptr ? Buffer::Allocate(bytes, source.name)
                            : arena->Allocate(bytes, source.name);
  };
  absl::StatusOr<Buffer> panels =
      allocate(CheckedMultiply(weight->panel_bytes, padded_rows / weight->panel_rows()));
  if (!panels.ok()) return panels.status();
  weight->panels = *std::move(panels);
  if (packing.row_scales > 0) {
    absl::StatusOr<Buffer> scales = allocate(CheckedMultiply(padded_rows, 4));
    if (!scales.ok()) return scales.status();
    weight->row_scales = *std::move(scales);
  }
  const int64_t shared = packing.shared_scales(padded_rows, weight->padded_cols);
  if (shared != 0) {
    absl::StatusOr<Buffer> scales = allocate(CheckedMultiply(shared, 4));
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
    PlaceRows(*matrix, first_row, target.weight.get());
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
                                                std::span<const FormatId> formats,
                                                const KernelTable& kernels, ThreadPool* pool,
                                                std::span<Arena> arenas) {
  VERNIER_CHECK(arenas.empty() || arenas.size() == kNumFormats);
  if (source.rows < 1 || source.cols < 1) {
    return absl::InvalidArgumentError(absl::StrCat(source.name, " has shape [", source.rows, ", ",
                                                   source.cols, "], must be positive"));
  }
  std::vector<Target> targets;
  bool any_chunked = false;
  for (const FormatId format : formats) {
    const Packing& packing = PackingOf(format, source.cols);
    absl::StatusOr<std::shared_ptr<PackedWeight>> weight = NewPackedWeight(
        source, packing, kernels, arenas.empty() ? nullptr : &arenas[static_cast<size_t>(format)]);
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
    PlaceRows(*matrix, 0, target.weight.get());
  }
  std::vector<Weight> weights;
  for (Target& target : targets) {
    const int64_t bytes = target.weight->bytes();
    weights.push_back({target.format, source.rows, source.cols, bytes, std::move(target.weight)});
  }
  return weights;
}

std::optional<WeightSource> ValuesOf(const Weight& weight) {
  const auto packed = std::static_pointer_cast<const PackedWeight>(weight.packed);
  if (FormatOf(weight.format).group != 0) return std::nullopt;
  WeightSource source{.rows = weight.rows, .cols = weight.cols};
  source.read = [packed](int64_t first_row, int64_t count, float* out) {
    for (int64_t row = 0; row < count; ++row) {
      ReadRow(*packed, first_row + row, out + row * packed->cols);
    }
    return absl::OkStatus();
  };
  return source;
}

}  // namespace vernier
