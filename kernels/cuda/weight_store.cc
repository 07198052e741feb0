#include "kernels/cuda/weight_store.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/cuda/gemm_plan.h"
#include "kernels/cuda/pack_device.h"
#include "kernels/cuda/quantize_device.h"
#include "kernels/quantize.h"

namespace vernier::cuda {
namespace {

constexpr int64_t kChunkValues = 4 << 20;   // fp32 values copied at once
constexpr int64_t kMostReaders = 16;        // threads that decode a chunk
constexpr int64_t kReaderValues = 1 << 18;  // below this a thread costs more than it brings
constexpr int64_t kAlignment = 16;
constexpr int64_t kSlabPieces = 4;  // neighbours of one size that an allocation has room for
constexpr int64_t kMostSlabBytes = 1 << 30;
constexpr int64_t kLeastSlabBytes = 1 << 20;

constexpr int64_t DivideUp(int64_t value, int64_t by) { return (value + by - 1) / by; }

bool HasRecords(Encoding encoding) {
  return encoding == Encoding::kInt8Records || encoding == Encoding::kNf4Records;
}

// How a format is stored here: in records where the GEMM kernels take the shape.
Encoding EncodingOf(FormatId format, int64_t cols) {
  const bool records = cols % kRecordCols == 0 && cols <= kMostInputs;
  switch (format) {
    case FormatId::kF32:
      return Encoding::kF32;
    case FormatId::kF16:
      return Encoding::kF16;
    case FormatId::kBF16:
      return Encoding::kBF16;
    case FormatId::kInt8:
      return records ? Encoding::kInt8Records : Encoding::kInt8Rows;
    case FormatId::kNf4:
    case FormatId::kNf4Dq:
      return records ? Encoding::kNf4Records : Encoding::kNf4Blocks;
  }
  return Encoding::kF32;
}

struct Sizes {
  int64_t codes = 0;
  int64_t scales = 0;  // bytes
};

Sizes SizesOf(Encoding encoding, int64_t rows, int64_t cols) {
  const int64_t values = rows * cols;
  switch (encoding) {
    case Encoding::kF32:
      return {values * 4, 0};
    case Encoding::kF16:
    case Encoding::kBF16:
      return {values * 2, 0};
    case Encoding::kInt8Rows:
      return {values, rows * 4};
    case Encoding::kNf4Blocks:
      return {DivideUp(values, 2), DivideUp(values, kNf4Block) * 4};
    case Encoding::kInt8Records:
      return {PackedBytes(PackedEncoding::kInt8, rows, cols), RecordGroups(rows) * kRecordRows * 4};
    case Encoding::kNf4Records:
      return {PackedBytes(PackedEncoding::kNf4, rows, cols), 0};
  }
  return {};
}

// What a format's rows are before they are packed into records.
Encoding CanonicalOf(Encoding encoding) {
  if (encoding == Encoding::kInt8Records) return Encoding::kInt8Rows;
  return encoding == Encoding::kNf4Records ? Encoding::kNf4Blocks : encoding;
}

Scalar ScalarOf(Encoding encoding) {
  if (encoding == Encoding::kF16) return Scalar::kF16;
  return encoding == Encoding::kBF16 ? Scalar::kBF16 : Scalar::kF32;
}

// Rows [first, first + count) by as many threads as pay.
absl::Status ReadRows(const WeightSource& source, int64_t first, int64_t count, float* out) {
  const int64_t wanted =
      std::min<int64_t>({kMostReaders, static_cast<int64_t>(std::thread::hardware_concurrency()),
                         count, DivideUp(count * source.cols, kReaderValues)});
  const int64_t readers = std::max<int64_t>(wanted, 1);
  std::vector<absl::Status> results(readers);
  const auto read = [&](int64_t reader) {
    const int64_t begin = count * reader / readers, end = count * (reader + 1) / readers;
    results[reader] = source.read(first + begin, end - begin, out + begin * source.cols);
  };
  std::vector<std::thread> threads;
  for (int64_t reader = 1; reader < readers; ++reader) threads.emplace_back(read, reader);
  read(0);
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& result : results) {
    if (!result.ok()) return result;
  }
  return absl::OkStatus();
}

}  // namespace

int64_t CodeBytesOf(const DeviceWeight& weight) {
  return SizesOf(weight.encoding, weight.rows, weight.cols).codes;
}

std::optional<DeviceWeight> Join(std::span<const DeviceWeight> weights) {
  DeviceWeight joined = weights[0];
  Sizes sizes = SizesOf(joined.encoding, joined.rows, joined.cols);
  for (const DeviceWeight& next : weights.subspan(1)) {
    // Records are padded to whole groups of rows.
    const bool whole = !HasRecords(joined.encoding) || joined.rows % kGroupRows == 0;
    const bool follows =
        next.encoding == joined.encoding && next.cols == joined.cols &&
        next.codes == joined.codes + sizes.codes &&
        (joined.scales == nullptr || next.scales == joined.scales + sizes.scales / sizeof(float));
    if (!whole || !follows || joined.encoding == Encoding::kNf4Blocks) return std::nullopt;
    joined.rows += next.rows;
    sizes = SizesOf(joined.encoding, joined.rows, joined.cols);
  }
  return joined;
}

struct WeightStore::Target {
  FormatId format = FormatId::kF32;
  DeviceWeight weight;
  Piece codes, scales;
  // Records only: the canonical form until it is packed.
  DeviceBuffer canonical_codes, canonical_scales;
  int64_t bytes = 0;

  bool packed() const { return HasRecords(weight.encoding); }
  uint8_t* encoded_codes() const { return packed() ? canonical_codes.as<uint8_t>() : codes.data; }
  float* encoded_scales() const {
    // An int8 row keeps its scale when it is packed, a block of NF4 takes it along.
    if (weight.encoding == Encoding::kNf4Records) return canonical_scales.as<float>();
    return reinterpret_cast<float*>(scales.data);
  }
};

absl::StatusOr<WeightStore::Piece> WeightStore::Take(Arena* arena, int64_t bytes,
                                                     const WeightSource& source) {
  const int64_t start = DivideUp(arena->used, kAlignment) * kAlignment;
  // A piece that is not the neighbour that the one before left room for leaves room for its own:
  // another of its size, as gate for up, and q for k and v.
  const bool neighbour = start + bytes <= arena->neighbours_end;
  // The first of a slab may fill it.
  const int64_t wanted = neighbour || start == 0 ? bytes : 2 * bytes;
  if (arena->slab == nullptr || start + wanted > arena->slab->bytes()) {
    const int64_t slab =
        std::max({bytes, kLeastSlabBytes, std::min(bytes * kSlabPieces, kMostSlabBytes)});
    absl::StatusOr<DeviceBuffer> buffer = DeviceBuffer::Allocate(slab, source.name);
    if (!buffer.ok()) return buffer.status();
    *arena = {.slab = std::make_shared<DeviceBuffer>(*std::move(buffer))};
    return Take(arena, bytes, source);
  }
  arena->used = start + bytes;
  if (!neighbour) arena->neighbours_end = start + 2 * bytes;
  return Piece{arena->slab, arena->slab->as<uint8_t>() + start};
}

absl::StatusOr<WeightStore::Target> WeightStore::Begin(const WeightSource& source,
                                                       FormatId format) {
  Target target;
  target.format = format;
  const Encoding encoding = EncodingOf(format, source.cols);
  const Sizes sizes = SizesOf(encoding, source.rows, source.cols);
  absl::StatusOr<Piece> codes = Take(&codes_[encoding], sizes.codes, source);
  if (!codes.ok()) return codes.status();
  target.codes = *std::move(codes);
  if (sizes.scales > 0) {
    absl::StatusOr<Piece> scales = Take(&scales_[encoding], sizes.scales, source);
    if (!scales.ok()) return scales.status();
    target.scales = *std::move(scales);
    const cudaError_t error = cudaMemsetAsync(target.scales.data, 0, sizes.scales, stream_);
    if (error != cudaSuccess) return StatusOf(error, source.name);
  }
  target.bytes = sizes.codes + sizes.scales;
  target.weight = {encoding, source.rows, source.cols, target.codes.data,
                   reinterpret_cast<const float*>(target.scales.data)};
  if (!target.packed()) return target;
  const Sizes before = SizesOf(CanonicalOf(encoding), source.rows, source.cols);
  absl::StatusOr<DeviceBuffer> buffer = DeviceBuffer::Allocate(before.codes, source.name);
  if (!buffer.ok()) return buffer.status();
  target.canonical_codes = *std::move(buffer);
  buffer = DeviceBuffer::Allocate(before.scales, source.name);
  if (!buffer.ok()) return buffer.status();
  target.canonical_scales = *std::move(buffer);
  return target;
}

absl::Status WeightStore::Encode(const Target& target, int64_t first_row, int64_t rows,
                                 int32_t* bad) {
  const int64_t first = first_row * target.weight.cols, count = rows * target.weight.cols;
  const auto* values = chunk_.as<const float>();
  uint8_t* codes = target.encoded_codes();
  float* scales = target.encoded_scales();
  cudaError_t error =
      LaunchCheckLimit(values, count, LargestMagnitude(target.format), bad, stream_);
  if (error != cudaSuccess) return StatusOf(error, "checking a weight");
  switch (CanonicalOf(target.weight.encoding)) {
    case Encoding::kInt8Rows:
      error = LaunchEncodeInt8(values, rows, target.weight.cols, codes + first, scales + first_row,
                               stream_);
      break;
    case Encoding::kNf4Blocks:
      error =
          LaunchEncodeNf4(values, count, codes + first / 2, scales + first / kNf4Block, stream_);
      break;
    default: {
      const Scalar type = ScalarOf(target.weight.encoding);
      error = LaunchEncodeScalars(values, count, type, codes + first * ScalarSize(type), stream_);
    }
  }
  return StatusOf(error, "encoding a weight");
}

absl::Status WeightStore::Finish(const WeightSource& source, Target* target) {
  const int64_t rows = source.rows, cols = source.cols;
  float* scales = target->encoded_scales();
  if (target->format == FormatId::kNf4Dq) {
    std::vector<float> absmax(DivideUp(rows * cols, kNf4Block));
    const size_t bytes = absmax.size() * sizeof(float);
    cudaError_t error =
        cudaMemcpyAsync(absmax.data(), scales, bytes, cudaMemcpyDeviceToHost, stream_);
    if (error == cudaSuccess) error = cudaStreamSynchronize(stream_);
    absmax = NestedScales(std::move(absmax));
    if (error == cudaSuccess) {
      error = cudaMemcpyAsync(scales, absmax.data(), bytes, cudaMemcpyHostToDevice, stream_);
    }
    if (error == cudaSuccess) error = cudaStreamSynchronize(stream_);
    if (error != cudaSuccess) return StatusOf(error, source.name);
  }
  cudaError_t error = cudaSuccess;
  if (target->weight.encoding == Encoding::kNf4Records) {
    error = LaunchPackNf4(target->encoded_codes(), scales, rows, cols, target->codes.data, stream_);
  } else if (target->weight.encoding == Encoding::kInt8Records) {
    error = LaunchPackInt8(reinterpret_cast<const int8_t*>(target->encoded_codes()), rows, cols,
                           target->codes.data, stream_);
  }
  return StatusOf(error, source.name);
}

absl::Status WeightStore::ReserveScratch(int64_t chunk_values) {
  const int64_t bytes = chunk_values * static_cast<int64_t>(sizeof(float));
  if (chunk_.bytes() >= bytes && bad_.bytes() > 0) return absl::OkStatus();
  for (PinnedBuffer& staging : staging_) {
    absl::StatusOr<PinnedBuffer> pinned = PinnedBuffer::Allocate(bytes, "weights on their way");
    if (!pinned.ok()) return pinned.status();
    staging = *std::move(pinned);
  }
  absl::StatusOr<DeviceBuffer> chunk = DeviceBuffer::Allocate(bytes, "weights on their way");
  if (!chunk.ok()) return chunk.status();
  chunk_ = *std::move(chunk);
  absl::StatusOr<DeviceBuffer> bad = DeviceBuffer::Allocate(kNumFormats * 4, "flags");
  if (!bad.ok()) return bad.status();
  bad_ = *std::move(bad);
  return absl::OkStatus();
}

absl::Status WeightStore::ReadChunks(const WeightSource& source, std::span<const Target> targets) {
  // Whole blocks of NF4: a multiple of 64 rows, unless one chunk is all there is.
  const int64_t most = std::max<int64_t>(kChunkValues / source.cols / kNf4Block, 1) * kNf4Block;
  const int64_t chunk_rows = std::min(most, source.rows);
  if (absl::Status status = ReserveScratch(chunk_rows * source.cols); !status.ok()) return status;
  cudaError_t error = cudaMemsetAsync(bad_.as<void>(), 0, bad_.bytes(), stream_);
  if (error != cudaSuccess) return StatusOf(error, source.name);
  int turn = 0;
  for (int64_t first = 0; first < source.rows; first += chunk_rows, turn ^= 1) {
    const int64_t count = std::min(chunk_rows, source.rows - first);
    auto* values = staging_[turn].as<float>();
    if (absl::Status status = ReadRows(source, first, count, values); !status.ok()) return status;
    // What the other staging buffer holds has arrived; this one is read while the device encodes.
    error = cudaStreamSynchronize(stream_);
    if (error == cudaSuccess) {
      error = cudaMemcpyAsync(chunk_.as<void>(), values, count * source.cols * sizeof(float),
                              cudaMemcpyHostToDevice, stream_);
    }
    if (error != cudaSuccess) return StatusOf(error, source.name);
    for (size_t i = 0; i < targets.size(); ++i) {
      absl::Status status = Encode(targets[i], first, count, bad_.as<int32_t>() + i);
      if (!status.ok()) return status;
    }
  }
  int32_t bad[kNumFormats] = {};
  error = cudaMemcpyAsync(bad, bad_.as<void>(), sizeof(bad), cudaMemcpyDeviceToHost, stream_);
  if (error == cudaSuccess) error = cudaStreamSynchronize(stream_);
  if (error != cudaSuccess) return StatusOf(error, source.name);
  for (size_t i = 0; i < targets.size(); ++i) {
    if (bad[i] == 0) continue;
    // The host's encoder knows which value it is, and how to say so.
    const absl::Status status = Quantize(source, targets[i].format).status();
    return status.ok()
               ? absl::InternalError(absl::StrCat(source.name, ": read twice, not the same"))
               : status;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Weight>> WeightStore::Create(const WeightSource& source,
                                                        std::span<const FormatId> formats) {
  constexpr int64_t kMaxWeights = int64_t{1} << 46;  // as quantize.cc: sizes in bytes stay in range
  if (source.rows <= 0 || source.cols <= 0 || source.rows > kMaxWeights / source.cols) {
    return absl::InvalidArgumentError(absl::StrCat(source.name, ": shape [", source.rows, ", ",
                                                   source.cols, "] is not a weight's"));
  }
  VERNIER_CHECK(formats.size() <= kNumFormats);
  std::vector<Target> targets;
  for (const FormatId format : formats) {
    absl::StatusOr<Target> target = Begin(source, format);
    if (!target.ok()) return target.status();
    targets.push_back(*std::move(target));
  }
  if (absl::Status status = ReadChunks(source, targets); !status.ok()) return status;
  std::vector<Weight> weights;
  for (Target& target : targets) {
    if (absl::Status status = Finish(source, &target); !status.ok()) return status;
    struct Owned {
      DeviceWeight weight;
      Piece codes, scales;
    };
    auto owned = std::make_shared<Owned>(Owned{target.weight, target.codes, target.scales});
    weights.push_back({target.format, source.rows, source.cols, target.bytes,
                       std::shared_ptr<const DeviceWeight>(owned, &owned->weight)});
  }
  // The canonical forms go when the packing that reads them is done.
  const cudaError_t error = cudaStreamSynchronize(stream_);
  if (error != cudaSuccess) return StatusOf(error, source.name);
  return weights;
}

absl::StatusOr<Vector> WeightStore::CreateVector(std::span<const float> values) {
  const WeightSource named{.name = "a vector"};
  absl::StatusOr<Piece> piece = Take(&vectors_, static_cast<int64_t>(values.size_bytes()), named);
  if (!piece.ok()) return piece.status();
  const cudaError_t error =
      cudaMemcpy(piece->data, values.data(), values.size_bytes(), cudaMemcpyHostToDevice);
  if (error != cudaSuccess) return StatusOf(error, named.name);
  const auto* data = reinterpret_cast<const float*>(piece->data);
  return Vector{static_cast<int64_t>(values.size()),
                std::shared_ptr<const float>(std::make_shared<Piece>(*std::move(piece)), data)};
}

void WeightStore::ReleaseScratch() {
  for (PinnedBuffer& staging : staging_) staging = {};
  chunk_ = {};
  bad_ = {};
}

}  // namespace vernier::cuda
