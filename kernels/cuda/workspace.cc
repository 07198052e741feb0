#include "kernels/cuda/workspace.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/cuda/decode_plan.h"
#include "kernels/cuda/gemm_rows16.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/logit_rows.h"

namespace vernier::cuda {
namespace {

constexpr int64_t kAlignment = 256;
constexpr int64_t kBlockTableBytes = 64 << 20;
constexpr int64_t kCallBytes = 16 << 20;
constexpr int64_t kShareBytes = kMostDecodeBlocks * static_cast<int64_t>(sizeof(DecodeShare));
constexpr int64_t kArrays = 6 + 2 * kMostWindows;  // of a step
constexpr int64_t kStagingBytes = 2 * (kBlockTableBytes / 4 + kCallBytes);

// Of split attention: eight times decode's, as what LaunchCuts shares out takes more; some 26 MB of
// 128 dimensions.
constexpr int64_t kPartialHeads = 8 * int64_t{kMostDecodeBlocks} * kPartialsPerBlock * kDecodeHeads;

constexpr int64_t DivideUp(int64_t value, int64_t by) { return (value + by - 1) / by; }
constexpr int64_t RoundUp(int64_t value, int64_t to) { return DivideUp(value, to) * to; }

absl::Status Clear(std::initializer_list<const DeviceBuffer*> buffers) {
  cudaError_t error = cudaSuccess;
  for (const DeviceBuffer* buffer : buffers) {
    if (error == cudaSuccess) error = cudaMemset(buffer->as<void>(), 0, buffer->bytes());
  }
  // No stream waits for the default one.
  if (error == cudaSuccess) error = cudaDeviceSynchronize();
  return error == cudaSuccess ? absl::OkStatus() : StatusOf(error, "clearing a workspace");
}

int64_t StepBytes(const WorkspacePlan& plan) {
  const int64_t rows = RoundUp(plan.max_rows, kRowPadding);
  const int64_t a_row =
      3 * 4 + static_cast<int64_t>(kMostWindows * sizeof(DecodeRow) + sizeof(PrefillTile));
  const int64_t tables = rows * DivideUp(plan.max_context, kBlockTokens) * 4;
  return rows * a_row + RoundUp(plan.max_logit_rows, kRowPadding) * 4 + kMostWindows * kShareBytes +
         std::min(tables, kBlockTableBytes) + kArrays * kAlignment;
}

HeadShape HeadsOf(const AttentionShape& shape) {
  return {
      .num_heads = shape.num_heads, .num_kv_heads = shape.num_kv_heads, .head_dim = shape.head_dim};
}

// Places arrays one after the other in pinned memory and knows where they will be on the device.
class Packer {
 public:
  Packer(uint8_t* host, uint8_t* device) : host_(host), device_(device) {}

  // Room for `count` values, the first `values.size()` of them given, the rest `padding`.
  template <class T>
  const T* Add(std::span<const T> values, int64_t count, const T& padding) {
    used_ = RoundUp(used_, kAlignment);
    auto* to = reinterpret_cast<T*>(host_ + used_);
    std::copy(values.begin(), values.end(), to);
    std::fill(to + values.size(), to + count, padding);
    const auto* at = reinterpret_cast<const T*>(device_ + used_);
    used_ += count * static_cast<int64_t>(sizeof(T));
    return at;
  }
  int64_t used() const { return used_; }

 private:
  uint8_t* host_;
  uint8_t* device_;
  int64_t used_ = 0;
};

// The rows of a batch by kind.
struct Rows {
  std::vector<DecodeRow> decode;
  std::vector<PrefillTile> tiles;
  int tile_rows = 0;
};

Rows SortRows(const Batch& batch, const HeadShape& shape, const BatchPlan& plan) {
  Rows rows;
  const KvCode cache = CodeOf(plan.kv_type);
  const int most = std::max(plan.cuts ? CutTileRows(shape) : PrefillTileRows(shape, cache), 1);
  for (const SequenceRows& sequence : batch.sequences) {
    if (sequence.num_rows == 1 && !plan.cuts) {
      const int context = batch.positions[sequence.first_row] + 1;
      rows.decode.push_back(
          {.row = sequence.first_row, .first_block = sequence.first_block, .context = context});
      continue;
    }
    for (int done = 0; done < sequence.num_rows; done += most) {
      const int count = std::min(most, sequence.num_rows - done);
      const int first_row = sequence.first_row + done;
      rows.tiles.push_back({first_row, count, sequence.first_block, batch.positions[first_row]});
      rows.tile_rows = std::max(rows.tile_rows, count);
    }
  }
  // The longest first, so that what is left at the end is short.
  std::stable_sort(rows.tiles.begin(), rows.tiles.end(),
                   [](const PrefillTile& a, const PrefillTile& b) {
                     return a.first_position + a.num_rows > b.first_position + b.num_rows;
                   });
  return rows;
}

// A block of threads a cut where tiles alone are too few to fill the device, and the partials fit.
KeyCuts CutsOf(std::span<const PrefillTile> tiles, int rows, const HeadShape& heads,
               const DeviceBuffer& partials) {
  constexpr int64_t kEnoughBlocks = 2 * kMultiprocessors;
  int end = 1;
  for (const PrefillTile& tile : tiles) end = std::max(end, tile.first_position + tile.num_rows);
  const int64_t longest = DivideUp(end, kCutKeys);
  const int64_t a_cut = int64_t{rows} * heads.num_heads * (2 + heads.head_dim) * 4;
  const int64_t room = partials.bytes() / a_cut;
  if (longest == 1 || room < longest) return {};
  if (static_cast<int64_t>(tiles.size()) * heads.num_kv_heads >= kEnoughBlocks) return {};
  // Few counts: a recorded step serves many.
  const auto count = std::min(room, static_cast<int64_t>(std::bit_ceil(uint64_t(longest))));
  return {partials.as<float>(), static_cast<int>(count)};
}

absl::Status CheckPlan(const WorkspacePlan& plan) {
  if (plan.attention.head_dim > kMostHeadDim) {
    return absl::InvalidArgumentError(absl::StrCat("heads have ", plan.attention.head_dim,
                                                   " dimensions, the cuda backend takes ",
                                                   kMostHeadDim));
  }
  constexpr int64_t kMostGroups = std::numeric_limits<int32_t>::max();
  const int64_t groups = plan.max_rows * DivideUp(plan.max_context, kGroupKeys);
  if (groups > kMostGroups / DecodeTiles(HeadsOf(plan.attention))) {
    return absl::InvalidArgumentError(absl::StrCat(
        plan.max_rows, " rows with contexts of ", plan.max_context, " tokens are ", groups,
        " groups of keys, the cuda backend counts ", kMostGroups, " over all tiles of heads"));
  }
  return absl::OkStatus();
}

}  // namespace

KvCode CodeOf(KvType type) {
  switch (type) {
    case KvType::kF32:
      return KvCode::kF32;
    case KvType::kF16:
      return KvCode::kF16;
    case KvType::kBF16:
      return KvCode::kBF16;
    case KvType::kInt8:
      return KvCode::kInt8;
  }
  return KvCode::kF32;
}

absl::Status Staging::Create(int64_t bytes) {
  absl::StatusOr<PinnedBuffer> buffer = PinnedBuffer::Allocate(bytes, "the arguments of steps");
  if (!buffer.ok()) return buffer.status();
  buffer_ = *std::move(buffer);
  return absl::OkStatus();
}

uint8_t* Staging::Take(int64_t bytes) {
  const int64_t start = RoundUp(used_, kAlignment);
  if (start + bytes > buffer_.bytes()) return nullptr;
  used_ = start + bytes;
  return buffer_.as<uint8_t>() + start;
}

int64_t Workspace::bytes() const {
  int64_t total = 0;
  for (const DeviceBuffer* buffer :
       {&residual, &x, &x_scales, &outliers, &weighted, &squares, &y, &query, &attention, &hidden,
        &logits[0], &logits[1], &adjusted, &partials, &arrivals, &step, &calls, &results}) {
    total += buffer->bytes();
  }
  return total;
}

absl::StatusOr<Workspace> Workspace::Create(const WorkspacePlan& plan, int row_room) {
  const AttentionShape& shape = plan.attention;
  if (absl::Status status = CheckPlan(plan); !status.ok()) return status;
  Workspace w;
  w.plan = plan;
  w.kv_block_bytes = KvBlockBytes(plan.num_layers, shape, plan.widest_kv);
  const int64_t rows = RoundUp(plan.max_rows, row_room);
  const int64_t logit_rows = RoundUp(plan.max_logit_rows, row_room);
  const int64_t query = w.query_width();
  const int64_t kv = int64_t{shape.num_kv_heads} * shape.head_dim;
  const int64_t outputs = std::max({query + 2 * kv, 2 * plan.intermediate, plan.hidden});
  const int64_t inputs = w.longest_x();
  const int64_t logit_bytes = logit_rows * plan.vocab * 4;
  const int64_t kv_bytes = (plan.kv_blocks + 1) * w.kv_block_bytes;
  const int64_t score_bytes = logit_rows * static_cast<int64_t>(sizeof(DeviceScore));
  struct Wanted {
    DeviceBuffer* buffer;
    const char* what;
    int64_t bytes;
  };
  const Wanted wanted[] = {
      {&w.residual, "the residual", rows * plan.hidden * 4},
      {&w.x, "inputs of products", std::max(rows, logit_rows) * inputs * 4},
      {&w.x_scales, "scales of inputs", std::max(rows, logit_rows) * 4},
      {&w.outliers, "outlier columns", OutlierListBytes(inputs)},
      {&w.weighted, "weighted rows of the residual", int64_t{kRows16Tokens} * plan.hidden * 4},
      {&w.squares, "sums of squares", int64_t{kRows16Tokens} * kMostSquares * 4},
      {&w.y, "results of products", std::max(rows * outputs * 4, logit_bytes)},
      {&w.query, "queries", rows * query * 4},
      {&w.attention, "attention", rows * query * 4},
      {&w.hidden, "the hidden layer", rows * plan.intermediate * 4},
      {&w.logits[0], "logits", logit_bytes},
      {&w.logits[1], "reference logits", logit_bytes},
      {&w.adjusted, "logits after penalties", logit_bytes},
      {&w.partials, "split attention", kPartialHeads * (shape.head_dim + 2) * 4},
      {&w.arrivals, "arrivals of split attention",
       kMostDecodeBlocks * static_cast<int64_t>(sizeof(int))},
      {&w.step, "the arrays of a step", StepBytes(plan)},
      {&w.calls, "arguments of sampling", kCallBytes},
      {&w.results, "results of sampling", 2 * score_bytes},
      {&w.kv, "the KV cache", kv_bytes},
  };
  int64_t total = 0;
  for (const Wanted& each : wanted) total += each.bytes;
  size_t free = 0, all = 0;
  if (cudaError_t error = cudaMemGetInfo(&free, &all); error != cudaSuccess) {
    return StatusOf(error, "asking for the GPU's memory");
  }
  if (total > static_cast<int64_t>(free)) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the workspace needs ", total, " bytes of GPU memory, ", kv_bytes, " of them for ",
        plan.kv_blocks, " KV blocks; ", free, " bytes are free of ", all));
  }
  for (const Wanted& each : wanted) {
    absl::StatusOr<DeviceBuffer> buffer = DeviceBuffer::Allocate(each.bytes, each.what);
    if (!buffer.ok()) return buffer.status();
    *each.buffer = *std::move(buffer);
  }
  // Of a result not all bytes are written, and all are copied.
  absl::Status status = Clear({&w.arrivals, &w.outliers, &w.results});
  if (status.ok()) {
    status = w.staging.Create(std::min(kStagingBytes, 2 * (StepBytes(plan) + kCallBytes)));
  }
  if (status.ok()) status = w.returned.Create(4 * score_bytes);
  if (!status.ok()) return status;
  return w;
}

const DecodeSplit& DeviceBatch::SplitOf(int window) const {
  for (const DecodeSplit& split : splits) {
    if (split.rows != nullptr && split.window == window) return split;
  }
  return splits[0];
}

absl::StatusOr<DeviceBatch> UploadBatch(const Batch& batch, const BatchPlan& plan,
                                        cudaStream_t stream, Workspace* workspace) {
  const HeadShape heads = HeadsOf(workspace->plan.attention);
  Rows sorted = SortRows(batch, heads, plan);
  const int rows = plan.rows, logit_rows = plan.logit_rows;
  DeviceBatch out{.rows = rows,
                  .logit_rows = logit_rows,
                  .tiles = static_cast<int>(sorted.tiles.size()),
                  .tile_rows = sorted.tile_rows};
  const int padding = rows - batch.num_rows;
  if (plan.cuts) {
    sorted.tiles.resize(sorted.tiles.size() + static_cast<size_t>(padding));
    out.tiles += padding;
    out.cuts = CutsOf(sorted.tiles, rows, heads, workspace->partials);
  } else {
    out.decode_rows = static_cast<int>(sorted.decode.size()) + padding;
  }
  const int windows = plan.window > 0 ? 2 : 1;
  const int64_t most = (3 * rows + logit_rows) * int64_t{4} +
                       windows * out.decode_rows * static_cast<int64_t>(sizeof(DecodeRow)) +
                       windows * kShareBytes +
                       out.tiles * static_cast<int64_t>(sizeof(PrefillTile)) +
                       static_cast<int64_t>(batch.blocks.size_bytes()) + kArrays * kAlignment;
  uint8_t* host = workspace->staging.Take(most);
  if (host == nullptr) {
    // Earlier passes of this step are still to be read: wait for them.
    if (cudaError_t error = cudaStreamSynchronize(stream); error != cudaSuccess) {
      return StatusOf(error, "waiting for room");
    }
    workspace->staging.Reset();
    host = workspace->staging.Take(most);
  }
  if (host == nullptr || most > workspace->step.bytes()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the arrays of a step have ", most, " bytes, room is for ",
                     std::min(workspace->step.bytes(), workspace->staging.bytes())));
  }
  auto* device = workspace->step.as<uint8_t>();
  Packer packer(host, device);
  const auto scratch_slot = static_cast<int32_t>(workspace->plan.kv_blocks * kBlockTokens);
  out.arrays.ids = packer.Add(batch.ids, rows, 0);
  out.arrays.positions = packer.Add(batch.positions, rows, 0);
  out.arrays.slots = packer.Add(batch.slots, rows, scratch_slot);
  out.arrays.logit_rows = packer.Add(batch.logit_rows, logit_rows, 0);
  for (int i = 0; i < windows; ++i) {
    const int window = i == 0 ? 0 : plan.window;
    const DecodePlan decode =
        PlanDecode(DecodeTiles(heads), window, DecodeBlocksAtOnce(heads, CodeOf(plan.kv_type)),
                   std::span(sorted.decode));
    out.splits[i] = {
        .window = window,
        .rows = packer.Add(std::span<const DecodeRow>(sorted.decode), out.decode_rows, DecodeRow()),
        .shares = packer.Add(std::span<const DecodeShare>(decode.shares), kMostDecodeBlocks, {}),
        .blocks = decode.blocks,
        .partials = workspace->partials.as<float>(),
        .arrivals = workspace->arrivals.as<int>()};
  }
  out.arrays.tiles = packer.Add(std::span<const PrefillTile>(sorted.tiles), out.tiles, {});
  out.arrays.blocks = packer.Add(batch.blocks, static_cast<int64_t>(batch.blocks.size()), 0);
  const cudaError_t error =
      cudaMemcpyAsync(device, host, packer.used(), cudaMemcpyHostToDevice, stream);
  if (error != cudaSuccess) return StatusOf(error, "copying a step's arrays");
  return out;
}

}  // namespace vernier::cuda
