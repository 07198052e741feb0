#include "kernels/cpu/workspace.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/cpu/packed_weight.h"

namespace vernier {
namespace {

absl::Status CheckPlan(const WorkspacePlan& plan) {
  const struct {
    const char* name;
    int64_t value;
    int64_t min;
  } sizes[] = {
      {"max_rows", plan.max_rows, 1},
      {"max_logit_rows", plan.max_logit_rows, 0},
      {"max_context", plan.max_context, 1},
      {"hidden", plan.hidden, 1},
      {"intermediate", plan.intermediate, 0},
      {"vocab", plan.vocab, 1},
      {"num_layers", plan.num_layers, 0},
      {"num_heads", plan.attention.num_heads, 1},
      {"num_kv_heads", plan.attention.num_kv_heads, 1},
      {"head_dim", plan.attention.head_dim, 1},
      {"kv_blocks", plan.kv_blocks, 0},
  };
  for (const auto& size : sizes) {
    if (size.value < size.min) {
      return absl::InvalidArgumentError(absl::StrCat("workspace ", size.name, " is ", size.value,
                                                     ", must be at least ", size.min));
    }
  }
  if (plan.attention.num_heads % plan.attention.num_kv_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat("workspace num_heads ", plan.attention.num_heads,
                                                   " is no multiple of num_kv_heads ",
                                                   plan.attention.num_kv_heads));
  }
  return absl::OkStatus();
}

absl::StatusOr<RowBuffer> NewRows(int64_t rows, int64_t cols, absl::string_view what) {
  RowBuffer buffer;
  buffer.rows = rows;
  buffer.stride = cols;
  absl::StatusOr<Buffer> memory =
      Buffer::Allocate(CheckedMultiply(CheckedMultiply(rows, cols), sizeof(float)), what);
  if (!memory.ok()) return memory.status();
  buffer.memory = *std::move(memory);
  return buffer;
}

// Makes every page exist now: what is written only later would fault in the middle of a step, and
// would not be in the process's memory until then. By all threads: a virtual machine to which its
// host gives pages as they are touched takes 3 s a gigabyte with one.
void Touch(const Buffer& buffer, ThreadPool* pool) {
  constexpr int64_t kPieceBytes = int64_t{2} << 20;  // a huge page
  const int64_t pieces = (buffer.bytes() + kPieceBytes - 1) / kPieceBytes;
  pool->ParallelFor(pieces, [&](int, int64_t begin, int64_t end) {
    const int64_t from = begin * kPieceBytes;
    const int64_t until = std::min(end * kPieceBytes, buffer.bytes());
    std::memset(buffer.data() + from, 0, static_cast<size_t>(until - from));
  });
}

// KvBlockBytes with every product checked.
int64_t CheckedKvBlockBytes(const WorkspacePlan& plan) {
  const int64_t heads = CheckedMultiply(plan.num_layers, 2 * int64_t{plan.attention.num_kv_heads});
  return CheckedMultiply(heads, KvHeadBytes(plan.attention, plan.widest_kv));
}

}  // namespace

int64_t Workspace::bytes() const {
  int64_t sum = 0;
  for (const RowBuffer* rows :
       {&residual, &x, &q, &k, &v, &attention, &hidden, &rotary, &logits[0], &logits[1], &x_tiles,
        &x_digits, &linear_scratch, &attention_scratch, &attention_parts}) {
    sum += rows->memory.bytes();
  }
  for (const SampleScratch& scratch : sampling) {
    sum += (scratch.adjusted.capacity() + scratch.scaled.capacity()) * sizeof(float);
    sum += (scratch.top.capacity() + scratch.reference_top.capacity()) * sizeof(Candidate);
  }
  return sum + tasks.capacity() * sizeof(AttentionTask);
}

absl::StatusOr<Workspace> NewWorkspace(const WorkspacePlan& plan, const KernelTable& kernels,
                                       ThreadPool* pool) {
  if (absl::Status status = CheckPlan(plan); !status.ok()) return status;
  const int threads = pool->threads();
  Workspace workspace;
  workspace.plan = plan;
  workspace.q_cols = int64_t{plan.attention.num_heads} * plan.attention.head_dim;
  workspace.kv_cols = int64_t{plan.attention.num_kv_heads} * plan.attention.head_dim;
  const int64_t widest = std::max({plan.hidden, plan.intermediate, workspace.q_cols});
  const int64_t most_rows = std::max(plan.max_rows, plan.max_logit_rows);
  const struct {
    RowBuffer* buffer;
    int64_t rows;
    int64_t cols;
    const char* name;
  } wanted[] = {
      {&workspace.residual, plan.max_rows, plan.hidden, "the residual"},
      {&workspace.x, plan.max_rows, PaddedCols(plan.hidden), "the norms"},
      {&workspace.q, plan.max_rows, workspace.q_cols, "queries"},
      {&workspace.k, plan.max_rows, workspace.kv_cols, "keys"},
      {&workspace.v, plan.max_rows, workspace.kv_cols, "values"},
      {&workspace.attention, plan.max_rows, PaddedCols(workspace.q_cols), "attention"},
      {&workspace.hidden, plan.max_rows, PaddedCols(plan.intermediate), "the hidden layer"},
      {&workspace.rotary, plan.max_rows, plan.attention.head_dim, "rotary angles"},
      {&workspace.logits[0], plan.max_logit_rows, plan.vocab, "logits"},
      {&workspace.logits[1], plan.max_logit_rows, plan.vocab, "reference logits"},
      {&workspace.x_tiles, LinearTileRows(kernels, most_rows), PaddedCols(widest), "tiles"},
      {&workspace.x_digits, LinearDigitRows(kernels, most_rows), DigitFloats(widest), "digits"},
      {&workspace.linear_scratch, threads, LinearScratchFloats(widest, most_rows),
       "product scratch"},
      {&workspace.attention_scratch, threads, AttentionScratchFloats(plan.attention),
       "attention scratch"},
      {&workspace.attention_parts, AttentionParts(threads, plan.max_context),
       AttentionPartFloats(plan.attention), "segments of contexts"},
  };
  for (const auto& row : wanted) {
    absl::StatusOr<RowBuffer> rows = NewRows(row.rows, row.cols, row.name);
    if (!rows.ok()) return rows.status();
    *row.buffer = *std::move(rows);
    Touch(row.buffer->memory, pool);
  }
  workspace.kv_block_bytes = CheckedKvBlockBytes(plan);
  absl::StatusOr<Buffer> kv =
      Buffer::Allocate(CheckedMultiply(workspace.kv_block_bytes, plan.kv_blocks), "the KV cache");
  if (!kv.ok()) return kv.status();
  workspace.kv = *std::move(kv);
  Touch(workspace.kv, pool);
  workspace.sampling.resize(threads);
  if (plan.max_logit_rows > 0) {
    for (SampleScratch& scratch : workspace.sampling) scratch.Reserve(plan.vocab);
  }
  workspace.tasks.reserve(plan.max_rows);
  return workspace;
}

}  // namespace vernier
