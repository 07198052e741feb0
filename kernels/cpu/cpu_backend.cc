#include "kernels/cpu/cpu_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/cpu_features.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/panel_layouts.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/workspace.h"
#include "kernels/sample_row.h"

namespace vernier {
namespace {

constexpr int kMaxThreads = 1024;
// Below this many rows a loop over rows is done by the calling thread: waking the others costs
// more.
constexpr int64_t kSerialRows = 4;

const PackedWeight& PackedOf(const Weight& weight) {
  return *static_cast<const PackedWeight*>(weight.packed.get());
}

const PackedWeight* PackedOf(const Linear& linear) {
  return linear.weight == nullptr ? nullptr : &PackedOf(*linear.weight);
}

const float* ValuesOf(const Vector* vector) {
  return vector == nullptr ? nullptr : vector->values.get();
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(CpuIsa isa, const KernelTable& kernels, int threads, const CpuOptions& options)
      : isa_(isa),
        kernels_(kernels),
        pool_(threads, options.pin_threads ? ThreadPool::Place::kPinned : ThreadPool::Place::kAny),
        free_blocks_(options.free_blocks),
        fast_prefill_(options.fast_prefill) {}

  std::string Describe() const override {
    return absl::StrCat("cpu ", CpuIsaName(isa_), CpuEmulates(isa_) ? " (emulated)" : "", ", ",
                        pool_.threads(), pool_.threads() == 1 ? " thread" : " threads",
                        fast_prefill_ ? ", fast prefill" : "");
  }
  int Threads() const override { return pool_.threads(); }

  absl::StatusOr<std::vector<Weight>> CreateWeights(const WeightSource& source,
                                                    std::span<const FormatId> formats) override {
    return PackWeights(source, formats, kernels_, &pool_, arenas_);
  }
  absl::StatusOr<Vector> CreateVector(std::span<const float> values) override;
  std::optional<WeightSource> Values(const Weight& weight) const override {
    return ValuesOf(weight);
  }
  absl::Status CreateWorkspace(const WorkspacePlan& plan) override;
  BackendMemory Memory() const override;
  bool HasKvType(KvType) const override { return true; }
  bool HasActivations(Activations activations, FormatId format) const override {
    return activations == Activations::kFull ||
           (activations == Activations::kBF16 && format == FormatId::kBF16) ||
           (activations == Activations::kInt8 && kernels_.digits != nullptr &&
            FormatOf(format).bits < 16);
  }
  void Forget(std::span<const int32_t> blocks) override;

  void Execute(const StepKey& key, const Batch& batch, absl::FunctionRef<void()> forward) override;
  absl::Status Synchronize() override { return absl::OkStatus(); }

  void Embed(const EmbedArgs& args) override;
  void AttentionIn(const AttentionInArgs& args) override;
  void Attention(const AttentionArgs& args) override;
  void AttentionOut(const ResidualArgs& args) override {
    AddToResidual(args, workspace_->attention.view());
  }
  void MlpIn(const MlpInArgs& args) override;
  void MlpOut(const ResidualArgs& args) override { AddToResidual(args, workspace_->hidden.view()); }
  void LmHead(const LmHeadArgs& args) override;
  void Sample(std::span<const SampleRow> rows, std::span<SampleResult> results) override;
  void Score(const ScoreArgs& args) override;
  absl::Status CopyActivation(Activation which, std::span<float> out) override;

 private:
  LinearRuntime linear(Activations activations) {
    return {&kernels_,
            &pool_,
            workspace_->linear_scratch.view(),
            workspace_->x_tiles.view(),
            workspace_->x_digits.view(),
            activations,
            fast_prefill_};
  }
  KvCache cache() const { return {workspace_->kv.data(), workspace_->kv_block_bytes}; }

  // body(thread, row) for rows [0, count), by all threads where there are enough rows.
  template <class Body>
  void ForRows(int64_t count, const Body& body) {
    const auto range = [&](int thread, int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) body(thread, row);
    };
    if (count < kSerialRows) {
      range(0, 0, count);
    } else {
      pool_.ParallelFor(count, range);
    }
  }

  void ApplyNorm(const Norm& norm, const float* in, int64_t size, float* out) const {
    const auto apply = norm.kind == NormKind::kRms ? kernels_.rms_norm : kernels_.layer_norm;
    apply(in, norm.weight->values.get(), ValuesOf(norm.bias), norm.epsilon, size, out);
  }
  // x rows = norm of residual rows, zero to the padded columns.
  void NormRow(const Norm& norm, int64_t residual_row, int64_t x_row) const;
  void NormRows(const Norm& norm);
  void AddToResidual(const ResidualArgs& args, Rows input);
  void PrepareRotary(const Rotary& rotary);
  // Norms and rotates the heads of a row of q or k in place.
  void FinishHeads(const Norm* norm, int64_t rotated, int64_t row, int num_heads,
                   float* heads) const;
  void StoreKv(const AttentionInArgs& args, int64_t row) const;

  const CpuIsa isa_;
  const KernelTable& kernels_;
  ThreadPool pool_;
  const FreeBlocks free_blocks_;
  const bool fast_prefill_;
  Arena arenas_[kNumFormats];  // of weights, by FormatId: a variant's lie together, and go together
  std::optional<Workspace> workspace_;

  // Of the step; read by CopyActivation after it.
  const Batch* batch_ = nullptr;  // null outside Execute
  int64_t num_rows_ = 0;
  int64_t num_logits_[kLogitBuffers] = {};
  const float* prepared_rotary_ = nullptr;  // whose angles are in the workspace
};

absl::StatusOr<Vector> CpuBackend::CreateVector(std::span<const float> values) {
  absl::StatusOr<Buffer> buffer = Buffer::Allocate(
      CheckedMultiply(static_cast<int64_t>(values.size()), sizeof(float)), "a vector");
  if (!buffer.ok()) return buffer.status();
  auto owner = std::make_shared<Buffer>(*std::move(buffer));
  std::copy(values.begin(), values.end(), owner->floats());
  return Vector{static_cast<int64_t>(values.size()),
                std::shared_ptr<const float>(owner, owner->floats())};
}

absl::Status CpuBackend::CreateWorkspace(const WorkspacePlan& plan) {
  if (workspace_.has_value()) return absl::FailedPreconditionError("there is a workspace already");
  absl::StatusOr<Workspace> workspace = NewWorkspace(plan, kernels_, &pool_);
  if (!workspace.ok()) return workspace.status();
  workspace_.emplace(*std::move(workspace));
  for (int32_t block = 0; block < plan.kv_blocks; ++block) Forget({&block, 1});
  return absl::OkStatus();
}

void CpuBackend::Forget(std::span<const int32_t> blocks) {
  if (free_blocks_ == FreeBlocks::kAsTheyWere) return;
  constexpr int kNanBytes = 0xff;  // a NaN in every scalar type, and as a scale
  for (const int32_t block : blocks) {
    VERNIER_CHECK(block >= 0 && block < workspace_->plan.kv_blocks);
    std::memset(workspace_->kv.data() + block * workspace_->kv_block_bytes, kNanBytes,
                static_cast<size_t>(workspace_->kv_block_bytes));
  }
}

BackendMemory CpuBackend::Memory() const {
  if (!workspace_.has_value()) return {};
  return {.kv_bytes = workspace_->kv.bytes(), .workspace_bytes = workspace_->bytes()};
}

void CpuBackend::Execute(const StepKey&, const Batch& batch, absl::FunctionRef<void()> forward) {
  VERNIER_CHECK(workspace_.has_value());
  VERNIER_CHECK(batch.num_rows <= workspace_->plan.max_rows);
  VERNIER_CHECK(static_cast<int64_t>(batch.logit_rows.size()) <= workspace_->plan.max_logit_rows);
  batch_ = &batch;
  num_rows_ = batch.num_rows;
  prepared_rotary_ = nullptr;
  MakeAttentionTasks(batch, &workspace_->tasks);
  forward();
  batch_ = nullptr;
}

void CpuBackend::Embed(const EmbedArgs& args) {
  const int64_t hidden = workspace_->plan.hidden;
  VERNIER_CHECK(args.table->cols == hidden);
  VERNIER_CHECK(args.positions == nullptr || args.positions->cols == hidden);
  ForRows(num_rows_, [&](int, int64_t row) {
    float* residual = workspace_->residual.view().row(row);
    const int64_t id = batch_->ids[row];
    VERNIER_CHECK(id >= 0 && id < args.table->rows);
    ReadRow(PackedOf(*args.table), id, residual);
    if (args.scale != 1) {
      for (int64_t i = 0; i < hidden; ++i) residual[i] *= args.scale;
    }
    if (args.positions == nullptr) return;
    const int64_t position = batch_->positions[row];
    VERNIER_CHECK(position >= 0 && position < args.positions->rows);
    float* learned = workspace_->x.view().row(row);
    ReadRow(PackedOf(*args.positions), position, learned);
    for (int64_t i = 0; i < hidden; ++i) residual[i] += learned[i];
  });
}

void CpuBackend::NormRow(const Norm& norm, int64_t residual_row, int64_t x_row) const {
  const int64_t hidden = workspace_->plan.hidden;
  float* x = workspace_->x.view().row(x_row);
  ApplyNorm(norm, workspace_->residual.view().row(residual_row), hidden, x);
  std::fill(x + hidden, x + workspace_->x.stride, 0.0f);
}

void CpuBackend::NormRows(const Norm& norm) {
  VERNIER_CHECK(norm.weight->size == workspace_->plan.hidden);
  ForRows(num_rows_, [&](int, int64_t row) { NormRow(norm, row, row); });
}

// The angle is the fp32 product that transformers computes; its sine and cosine are rounded once.
void CpuBackend::PrepareRotary(const Rotary& rotary) {
  const float* frequencies = rotary.inverse_frequencies->values.get();
  if (prepared_rotary_ == frequencies) return;
  prepared_rotary_ = frequencies;
  const int64_t half = rotary.inverse_frequencies->size;
  VERNIER_CHECK(2 * half <= workspace_->rotary.stride);
  ForRows(num_rows_, [&](int, int64_t row) {
    float* out = workspace_->rotary.view().row(row);
    for (int64_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(batch_->positions[row]) * frequencies[i];
      out[i] = static_cast<float>(std::cos(static_cast<double>(angle)));
      out[half + i] = static_cast<float>(std::sin(static_cast<double>(angle)));
    }
  });
}

void CpuBackend::FinishHeads(const Norm* norm, int64_t rotated, int64_t row, int num_heads,
                             float* heads) const {
  const int head_dim = workspace_->plan.attention.head_dim;
  const float* cosines = workspace_->rotary.view().row(row);
  const float* sines = cosines + rotated;
  for (int head = 0; head < num_heads; ++head) {
    float* x = heads + int64_t{head} * head_dim;
    if (norm != nullptr) ApplyNorm(*norm, x, head_dim, x);
    for (int64_t i = 0; i < rotated; ++i) {
      const float a = x[i], b = x[i + rotated];
      x[i] = a * cosines[i] - b * sines[i];
      x[i + rotated] = b * cosines[i] + a * sines[i];
    }
  }
}

void CpuBackend::StoreKv(const AttentionInArgs& args, int64_t row) const {
  const int64_t slot = batch_->slots[row];
  VERNIER_CHECK(slot >= 0 && slot < workspace_->plan.kv_blocks * kBlockTokens);
  const int64_t offset = slot % kBlockTokens;
  const KvTypeTraits& traits = TraitsOf(args.kv_type);
  const int64_t head_dim = args.shape.head_dim;
  const auto store = kernels_.store[static_cast<int>(args.kv_type)];
  // Where the slot's part of a head begins; its scale, where the type has one, is stored, and its
  // inverse returned.
  const auto begin = [&](int value, int head, const float* from, float* inverse) {
    uint8_t* to =
        cache().head(slot / kBlockTokens, args.layer, value, head, args.shape, args.kv_type);
    if (traits.scale_bytes > 0) {
      const KvScale scale = KvScaleOf(args.kv_type, kernels_.largest(from, head_dim));
      KvCache::scales(to, args.shape, args.kv_type)[offset] = scale.scale;
      *inverse = scale.inverse;
    }
    return to;
  };
  for (int head = 0; head < args.shape.num_kv_heads; ++head) {
    const float* k = workspace_->k.view().row(row) + head * head_dim;
    const float* v = workspace_->v.view().row(row) + head * head_dim;
    float inverse = 1;
    uint8_t* values = begin(1, head, v, &inverse);
    store(v, head_dim, inverse, values + offset * head_dim * traits.value_bytes);
    uint8_t* keys = begin(0, head, k, &inverse) + offset * traits.value_bytes;
    for (int64_t first = 0; first < head_dim; first += kChunk) {
      alignas(64) uint8_t codes[kChunk * sizeof(float)];
      const int64_t count = std::min<int64_t>(kChunk, head_dim - first);
      store(k + first, count, inverse, codes);
      for (int64_t i = 0; i < count; ++i) {
        std::memcpy(keys + (first + i) * kBlockTokens * traits.value_bytes,
                    codes + i * traits.value_bytes, traits.value_bytes);
      }
    }
  }
}

void CpuBackend::AttentionIn(const AttentionInArgs& args) {
  const AttentionShape& planned = workspace_->plan.attention;
  VERNIER_CHECK(args.shape.num_heads == planned.num_heads &&
                args.shape.num_kv_heads == planned.num_kv_heads &&
                args.shape.head_dim == planned.head_dim);
  VERNIER_CHECK(args.layer >= 0 && args.layer < workspace_->plan.num_layers);
  VERNIER_CHECK(KvHeadBytes(planned, args.kv_type) <=
                KvHeadBytes(planned, workspace_->plan.widest_kv));
  VERNIER_CHECK(args.k.activations == args.q.activations &&
                args.v.activations == args.q.activations);
  NormRows(args.norm);
  if (args.rotary != nullptr) PrepareRotary(*args.rotary);
  const Projection projections[] = {
      {.weight = PackedOf(args.q), .bias = ValuesOf(args.q.bias), .out = workspace_->q.view()},
      {.weight = PackedOf(args.k), .bias = ValuesOf(args.k.bias), .out = workspace_->k.view()},
      {.weight = PackedOf(args.v), .bias = ValuesOf(args.v.bias), .out = workspace_->v.view()},
  };
  VERNIER_CHECK(projections[0].weight->rows == workspace_->q_cols &&
                projections[1].weight->rows == workspace_->kv_cols &&
                projections[2].weight->rows == workspace_->kv_cols);
  Project(linear(args.q.activations), workspace_->x.view(), num_rows_, projections);
  const int64_t rotated = args.rotary == nullptr ? 0 : args.rotary->inverse_frequencies->size;
  ForRows(num_rows_, [&](int, int64_t row) {
    FinishHeads(args.q_norm, rotated, row, args.shape.num_heads, workspace_->q.view().row(row));
    FinishHeads(args.k_norm, rotated, row, args.shape.num_kv_heads, workspace_->k.view().row(row));
    StoreKv(args, row);
  });
}

void CpuBackend::Attention(const AttentionArgs& args) {
  const AttentionRuntime runtime{&kernels_,
                                 &pool_,
                                 workspace_->attention_scratch.view(),
                                 workspace_->attention_parts.view(),
                                 workspace_->attention_parts.rows,
                                 cache()};
  Attend(runtime, *batch_, args, workspace_->tasks, workspace_->q.view(),
         workspace_->attention.view());
}

void CpuBackend::AddToResidual(const ResidualArgs& args, Rows input) {
  const int64_t hidden = workspace_->plan.hidden;
  VERNIER_CHECK(args.linear.weight->rows == hidden &&
                PaddedCols(args.linear.weight->cols) <= input.stride);
  Projection projection{.weight = PackedOf(args.linear),
                        .bias = ValuesOf(args.linear.bias),
                        .out = workspace_->residual.view(),
                        .store = Store::kAdd};
  if (args.post_norm == nullptr) {
    Project(linear(args.linear.activations), input, num_rows_, {&projection, 1});
    return;
  }
  projection.out = workspace_->x.view();
  projection.store = Store::kSet;
  Project(linear(args.linear.activations), input, num_rows_, {&projection, 1});
  ForRows(num_rows_, [&](int, int64_t row) {
    float* x = workspace_->x.view().row(row);
    float* residual = workspace_->residual.view().row(row);
    ApplyNorm(*args.post_norm, x, hidden, x);
    for (int64_t i = 0; i < hidden; ++i) residual[i] += x[i];
  });
}

void CpuBackend::MlpIn(const MlpInArgs& args) {
  VERNIER_CHECK(args.up.weight->cols == workspace_->plan.hidden &&
                args.up.weight->rows <= workspace_->plan.intermediate);
  VERNIER_CHECK(args.gate.weight == nullptr || args.gate.activations == args.up.activations);
  NormRows(args.norm);
  ProjectGated(linear(args.up.activations), workspace_->x.view(), num_rows_,
               {.gate = PackedOf(args.gate),
                .gate_bias = ValuesOf(args.gate.bias),
                .up = PackedOf(args.up),
                .up_bias = ValuesOf(args.up.bias),
                .activation = args.activation},
               workspace_->hidden.view());
}

void CpuBackend::LmHead(const LmHeadArgs& args) {
  VERNIER_CHECK(args.buffer >= 0 && args.buffer < kLogitBuffers);
  VERNIER_CHECK(args.linear.weight->rows == workspace_->plan.vocab);
  const int64_t count = static_cast<int64_t>(batch_->logit_rows.size());
  num_logits_[args.buffer] = count;
  if (count == 0) return;
  ForRows(count, [&](int, int64_t i) { NormRow(args.norm, batch_->logit_rows[i], i); });
  const Projection projection{.weight = PackedOf(args.linear),
                              .bias = ValuesOf(args.linear.bias),
                              .out = workspace_->logits[args.buffer].view(),
                              .soft_cap = args.soft_cap};
  Project(linear(args.linear.activations), workspace_->x.view(), count, {&projection, 1});
}

void CpuBackend::Sample(std::span<const SampleRow> rows, std::span<SampleResult> results) {
  VERNIER_CHECK(rows.size() == results.size());
  const Rows logits = workspace_->logits[0].view();
  const size_t vocab = static_cast<size_t>(workspace_->plan.vocab);
  pool_.ParallelFor(static_cast<int64_t>(rows.size()), [&](int thread, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int index = rows[i].logit_index;
      VERNIER_CHECK(index >= 0 && index < num_logits_[0]);
      results[i] =
          SampleRowFromLogits({logits.row(index), vocab}, rows[i], &workspace_->sampling[thread]);
    }
  });
}

void CpuBackend::Score(const ScoreArgs& args) {
  VERNIER_CHECK(args.rows.size() == args.results.size());
  VERNIER_CHECK(args.buffer >= 0 && args.buffer < kLogitBuffers);
  VERNIER_CHECK(args.reference_buffer < kLogitBuffers);
  const Rows logits = workspace_->logits[args.buffer].view();
  const size_t vocab = static_cast<size_t>(workspace_->plan.vocab);
  const int64_t count = static_cast<int64_t>(args.rows.size());
  pool_.ParallelFor(count, [&](int thread, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int index = args.rows[i].logit_index;
      VERNIER_CHECK(index >= 0 && index < num_logits_[args.buffer]);
      std::span<const float> reference;
      if (args.reference_buffer >= 0) {
        VERNIER_CHECK(index < num_logits_[args.reference_buffer]);
        reference = {workspace_->logits[args.reference_buffer].view().row(index), vocab};
      }
      args.results[i] = ScoreRowFromLogits({logits.row(index), vocab}, reference, args.rows[i],
                                           args.overlap_k, &workspace_->sampling[thread]);
    }
  });
}

absl::Status CpuBackend::CopyActivation(Activation which, std::span<float> out) {
  if (!workspace_.has_value()) return absl::FailedPreconditionError("there is no workspace");
  const Workspace& w = *workspace_;
  // By Activation.
  const struct {
    const RowBuffer& buffer;
    int64_t rows;
    int64_t cols;
  } table[] = {
      {w.residual, num_rows_, w.plan.hidden},      {w.q, num_rows_, w.q_cols},
      {w.attention, num_rows_, w.q_cols},          {w.hidden, num_rows_, w.plan.intermediate},
      {w.logits[0], num_logits_[0], w.plan.vocab}, {w.logits[1], num_logits_[1], w.plan.vocab},
  };
  const auto& row = table[static_cast<int>(which)];
  if (static_cast<int64_t>(out.size()) != row.rows * row.cols) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the activation is [", row.rows, ", ", row.cols, "], asked for ", out.size(), " values"));
  }
  for (int64_t i = 0; i < row.rows; ++i) {
    std::copy_n(row.buffer.view().row(i), row.cols, out.data() + i * row.cols);
  }
  return absl::OkStatus();
}

// By CpuIsa; null where the build has none.
using KernelsOf = const KernelTable& (*)();
constexpr KernelsOf kKernelsByIsa[kNumCpuIsas] = {
    PortableKernels,
#ifdef VERNIER_CPU_X86
    Avx2Kernels,     Avx512Kernels, Avx512Bf16Kernels, AmxKernels,
#endif
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(const CpuOptions& options) {
  int threads = options.threads;
  if (threads < 0 || threads > kMaxThreads) {
    return absl::InvalidArgumentError(
        absl::StrCat("threads is ", threads, ", must be 0 (all) to ", kMaxThreads));
  }
  const absl::StatusOr<CpuIsa> chosen = ChooseCpuIsa(options.isa);
  if (!chosen.ok()) return chosen.status();
  if (threads == 0) threads = std::min(UsableProcessors(), kMaxThreads);
  return std::make_unique<CpuBackend>(*chosen, kKernelsByIsa[static_cast<int>(*chosen)](), threads,
                                      options);
}

}  // namespace vernier
