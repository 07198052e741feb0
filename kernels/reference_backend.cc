#include "kernels/reference_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <numbers>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/llm_int8.h"
#include "kernels/quantize.h"
#include "kernels/sample_row.h"

namespace vernier {
namespace {

// A zeroed array whose allocation can fail.
template <typename T>
struct Buffer {
  std::unique_ptr<T[]> values;
  int64_t size = 0;

  int64_t bytes() const { return size * static_cast<int64_t>(sizeof(T)); }
};

template <typename T>
absl::Status Allocate(std::initializer_list<int64_t> shape, Buffer<T>* out) {
  int64_t size = 1;
  bool overflow = false;
  for (const int64_t extent : shape) {
    overflow = overflow || extent < 0 || __builtin_mul_overflow(size, extent, &size);
  }
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / int64_t{sizeof(T)};
  if (!overflow && size <= kMost) {
    *out = {std::unique_ptr<T[]>(new (std::nothrow) T[size]()), size};
    if (out->values != nullptr) return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("no memory for ", overflow ? "an array too large to count" : absl::StrCat(size),
                   " values of ", sizeof(T), " bytes"));
}

double GeluTanh(double x) {
  const double inner = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
  return 0.5 * x * (1 + std::tanh(inner));
}

double Activate(ActivationKind kind, double x) {
  switch (kind) {
    case ActivationKind::kSilu:
      return x / (1 + std::exp(-x));
    case ActivationKind::kGeluTanh:
      return GeluTanh(x);
    case ActivationKind::kGeluErf:
      return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2));
  }
  return x;
}

// out = norm(x), both [norm.weight->size]; they may be the same.
void Normalize(const Norm& norm, const float* x, float* out) {
  const int64_t size = norm.weight->size;
  double mean = 0;
  if (norm.kind == NormKind::kLayer) {
    for (int64_t i = 0; i < size; ++i) mean += x[i];
    mean /= static_cast<double>(size);
  }
  double squares = 0;
  for (int64_t i = 0; i < size; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const double scale = 1 / std::sqrt(squares / static_cast<double>(size) + norm.epsilon);
  for (int64_t i = 0; i < size; ++i) {
    double y = (x[i] - mean) * scale * norm.weight->values.get()[i];
    if (norm.bias != nullptr) y += norm.bias->values.get()[i];
    out[i] = static_cast<float>(y);
  }
}

// Weight::packed of this backend: the decoded values, row-major [rows, cols].
const float* ValuesOf(const Weight& weight) {
  return static_cast<const float*>(weight.packed.get());
}

// y [outputs] = W x (+ bias), x [inputs].
void Multiply(const Linear& linear, const float* x, float* y) {
  const Weight& weight = *linear.weight;
  const float* values = ValuesOf(weight);
  for (int64_t row = 0; row < weight.rows; ++row) {
    const float* of_row = values + row * weight.cols;
    double sum = 0;
    for (int64_t i = 0; i < weight.cols; ++i) sum += static_cast<double>(of_row[i]) * x[i];
    if (linear.bias != nullptr) sum += linear.bias->values.get()[row];
    y[row] = static_cast<float>(sum);
  }
}

bool IsRounded(Activations activations, FormatId format) {
  return (activations == Activations::kBF16 && format == FormatId::kBF16) ||
         (activations == Activations::kLlmInt8 && format == FormatId::kInt8);
}

// What enters `linear` of `x` [rows, cols], in place.
void RoundInputs(const Linear& linear, std::span<float> x) {
  if (!IsRounded(linear.activations, linear.weight->format)) return;
  if (linear.activations == Activations::kLlmInt8) return RoundAsLlmInt8(x, linear.weight->cols);
  for (float& value : x) value = F32FromBF16(BF16FromF32(value));
}

void Rotate(const Rotary& rotary, int32_t position, float* head) {
  const int64_t half = rotary.inverse_frequencies->size;
  for (int64_t i = 0; i < half; ++i) {
    const double angle =
        static_cast<double>(position) * rotary.inverse_frequencies->values.get()[i];
    const double first = head[i];
    const double second = head[i + half];
    head[i] = static_cast<float>(first * std::cos(angle) - second * std::sin(angle));
    head[i + half] = static_cast<float>(second * std::cos(angle) + first * std::sin(angle));
  }
}

class ReferenceBackend final : public Backend {
 public:
  std::string Describe() const override { return "reference, 1 thread"; }
  int Threads() const override { return 1; }

  absl::StatusOr<std::vector<Weight>> CreateWeights(const WeightSource& source,
                                                    std::span<const FormatId> formats) override;
  absl::StatusOr<Vector> CreateVector(std::span<const float> values) override;
  absl::Status CreateWorkspace(const WorkspacePlan& plan) override;
  BackendMemory Memory() const override;
  bool HasKvType(KvType) const override { return true; }
  bool HasActivations(Activations activations, FormatId format) const override {
    return activations == Activations::kFull || IsRounded(activations, format);
  }

  void Execute(const StepKey& key, const Batch& batch, absl::FunctionRef<void()> forward) override;
  absl::Status Synchronize() override { return absl::OkStatus(); }

  void Embed(const EmbedArgs& args) override;
  void AttentionIn(const AttentionInArgs& args) override;
  void Attention(const AttentionArgs& args) override;
  void AttentionOut(const ResidualArgs& args) override;
  void MlpIn(const MlpInArgs& args) override;
  void MlpOut(const ResidualArgs& args) override;
  void LmHead(const LmHeadArgs& args) override;
  void Sample(std::span<const SampleRow> rows, std::span<SampleResult> results) override;
  void Score(const ScoreArgs& args) override;
  absl::Status CopyActivation(Activation which, std::span<float> out) override;

 private:
  // The head of a token's slot in the cache.
  struct SlotHead {
    uint8_t* values;  // [head_dim] of the type
    float* scale;     // null: the type has none
    float Scale() const { return scale == nullptr ? 1 : *scale; }
  };
  SlotHead Slot(int layer, bool is_value, int kv_head, int32_t slot, const AttentionShape& shape,
                KvType type);
  void WriteSlots(const AttentionInArgs& args, int row, const float* k, const float* v);
  void AttendHead(const AttentionArgs& args, const SequenceRows& sequence, int row, int head);
  void AddToResidual(const ResidualArgs& args, const float* input, int64_t width);
  std::span<const float> Logits(int buffer, int index) const;
  // norm(residual) of `rows` as `linear` takes it, [rows, hidden].
  std::vector<float> NormalizeRows(const Norm& norm, const Linear& linear,
                                   std::span<const int32_t> rows) const;

  int64_t QueryWidth() const {
    return int64_t{plan_.attention.num_heads} * plan_.attention.head_dim;
  }

  WorkspacePlan plan_;
  bool in_step_ = false;
  Batch batch_;                    // of the last step; its spans are read during the step alone
  std::vector<int32_t> all_rows_;  // of batch_

  Buffer<float> residual_;               // [max_rows, hidden]
  Buffer<float> query_;                  // [max_rows, heads * head_dim]
  Buffer<float> attention_;              // [max_rows, heads * head_dim]
  Buffer<float> hidden_;                 // [max_rows, intermediate]
  Buffer<float> logits_[kLogitBuffers];  // [max_logit_rows, vocab]
  Buffer<uint8_t> kv_;                   // [kv_blocks, KvBlockBytes]
  SampleScratch scratch_;
};

absl::StatusOr<std::vector<Weight>> ReferenceBackend::CreateWeights(
    const WeightSource& source, std::span<const FormatId> formats) {
  // Read once, held whole: this backend is for small models.
  Buffer<float> original;
  absl::Status status = Allocate({source.rows, source.cols}, &original);
  if (!status.ok()) return status;
  status = source.read(0, source.rows, original.values.get());
  if (!status.ok()) return status;
  WeightSource in_memory = SourceOf(std::span<const float>(original.values.get(), original.size),
                                    source.rows, source.cols);
  in_memory.name = source.name;

  std::vector<Weight> weights;
  for (const FormatId format : formats) {
    absl::StatusOr<QuantizedMatrix> matrix = Quantize(in_memory, format);
    if (!matrix.ok()) return matrix.status();
    Buffer<float> decoded;
    status = Allocate({source.rows, source.cols}, &decoded);
    if (!status.ok()) return status;
    Dequantize(*matrix, 0, source.rows, decoded.values.get());
    weights.push_back({.format = format,
                       .rows = source.rows,
                       .cols = source.cols,
                       .bytes = decoded.bytes(),
                       .packed = std::shared_ptr<const float[]>(std::move(decoded.values))});
  }
  return weights;
}

absl::StatusOr<Vector> ReferenceBackend::CreateVector(std::span<const float> values) {
  Buffer<float> copy;
  absl::Status status = Allocate({static_cast<int64_t>(values.size())}, &copy);
  if (!status.ok()) return status;
  std::copy(values.begin(), values.end(), copy.values.get());
  const std::shared_ptr<const float[]> owner(std::move(copy.values));
  return Vector{.size = copy.size, .values = std::shared_ptr<const float>(owner, owner.get())};
}

absl::Status ReferenceBackend::CreateWorkspace(const WorkspacePlan& plan) {
  VERNIER_CHECK(residual_.values == nullptr);
  plan_ = plan;
  const int64_t block_bytes = KvBlockBytes(plan.num_layers, plan.attention, plan.widest_kv);
  absl::Status status = Allocate({plan.max_rows, plan.hidden}, &residual_);
  status.Update(Allocate({plan.max_rows, QueryWidth()}, &query_));
  status.Update(Allocate({plan.max_rows, QueryWidth()}, &attention_));
  status.Update(Allocate({plan.max_rows, plan.intermediate}, &hidden_));
  for (Buffer<float>& logits : logits_) {
    status.Update(Allocate({plan.max_logit_rows, plan.vocab}, &logits));
  }
  status.Update(Allocate({plan.kv_blocks, block_bytes}, &kv_));
  return status;
}

BackendMemory ReferenceBackend::Memory() const {
  int64_t workspace = residual_.bytes() + query_.bytes() + attention_.bytes() + hidden_.bytes();
  for (const Buffer<float>& logits : logits_) workspace += logits.bytes();
  return {.kv_bytes = kv_.bytes(), .workspace_bytes = workspace};
}

void ReferenceBackend::Execute(const StepKey& /*key*/, const Batch& batch,
                               absl::FunctionRef<void()> forward) {
  VERNIER_CHECK(residual_.values != nullptr && !in_step_);
  VERNIER_CHECK(batch.num_rows <= plan_.max_rows);
  VERNIER_CHECK(static_cast<int64_t>(batch.logit_rows.size()) <= plan_.max_logit_rows);
  batch_ = batch;
  all_rows_.resize(batch.num_rows);
  std::iota(all_rows_.begin(), all_rows_.end(), 0);
  in_step_ = true;
  forward();
  in_step_ = false;
}

void ReferenceBackend::Embed(const EmbedArgs& args) {
  VERNIER_CHECK(in_step_ && args.table->cols == plan_.hidden);
  for (int row = 0; row < batch_.num_rows; ++row) {
    const int32_t id = batch_.ids[row];
    VERNIER_CHECK(id >= 0 && id < args.table->rows);
    const float* token = ValuesOf(*args.table) + id * plan_.hidden;
    float* residual = residual_.values.get() + row * plan_.hidden;
    for (int64_t i = 0; i < plan_.hidden; ++i) residual[i] = args.scale * token[i];
    if (args.positions == nullptr) continue;
    VERNIER_CHECK(batch_.positions[row] < args.positions->rows);
    const float* position = ValuesOf(*args.positions) + batch_.positions[row] * plan_.hidden;
    for (int64_t i = 0; i < plan_.hidden; ++i) residual[i] += position[i];
  }
}

ReferenceBackend::SlotHead ReferenceBackend::Slot(int layer, bool is_value, int kv_head,
                                                  int32_t slot, const AttentionShape& shape,
                                                  KvType type) {
  const int64_t block = slot / kBlockTokens;
  const int64_t offset = slot % kBlockTokens;
  VERNIER_CHECK(slot >= 0 && block < plan_.kv_blocks && layer < plan_.num_layers);
  VERNIER_CHECK(KvHeadBytes(shape, type) <= KvHeadBytes(shape, plan_.widest_kv));
  const int64_t head = (int64_t{layer} * 2 + (is_value ? 1 : 0)) * shape.num_kv_heads + kv_head;
  uint8_t* values = kv_.values.get() +
                    block * KvBlockBytes(plan_.num_layers, shape, plan_.widest_kv) +
                    head * KvHeadBytes(shape, type);
  const int64_t row_bytes = int64_t{shape.head_dim} * TraitsOf(type).value_bytes;
  float* scales = reinterpret_cast<float*>(values + kBlockTokens * row_bytes);
  return {values + offset * row_bytes, TraitsOf(type).scale_bytes > 0 ? scales + offset : nullptr};
}

void ReferenceBackend::WriteSlots(const AttentionInArgs& args, int row, const float* k,
                                  const float* v) {
  const AttentionShape& shape = args.shape;
  for (int head = 0; head < shape.num_kv_heads; ++head) {
    const int32_t slot = batch_.slots[row];
    const size_t start = size_t{1} * head * shape.head_dim;
    for (const bool is_value : {false, true}) {
      const SlotHead to = Slot(args.layer, is_value, head, slot, shape, args.kv_type);
      const float* from = (is_value ? v : k) + start;
      EncodeKvHead(args.kv_type, {from, static_cast<size_t>(shape.head_dim)}, to.values, to.scale);
    }
  }
}

std::vector<float> ReferenceBackend::NormalizeRows(const Norm& norm, const Linear& linear,
                                                   std::span<const int32_t> rows) const {
  std::vector<float> x(rows.size() * plan_.hidden);
  for (size_t i = 0; i < rows.size(); ++i) {
    Normalize(norm, residual_.values.get() + rows[i] * plan_.hidden, x.data() + i * plan_.hidden);
  }
  RoundInputs(linear, x);
  return x;
}

void ReferenceBackend::AttentionIn(const AttentionInArgs& args) {
  VERNIER_CHECK(in_step_);
  const AttentionShape& shape = args.shape;
  const int64_t kv_width = int64_t{shape.num_kv_heads} * shape.head_dim;
  const std::vector<float> all = NormalizeRows(args.norm, args.q, all_rows_);
  std::vector<float> k(kv_width), v(kv_width);
  for (int row = 0; row < batch_.num_rows; ++row) {
    float* q = query_.values.get() + row * QueryWidth();
    const float* x = all.data() + row * plan_.hidden;
    Multiply(args.q, x, q);
    Multiply(args.k, x, k.data());
    Multiply(args.v, x, v.data());
    const auto finish = [&](const Norm* norm, float* heads, int count) {
      for (int head = 0; head < count; ++head) {
        float* values = heads + int64_t{head} * shape.head_dim;
        if (norm != nullptr) Normalize(*norm, values, values);
        if (args.rotary != nullptr) Rotate(*args.rotary, batch_.positions[row], values);
      }
    };
    finish(args.q_norm, q, shape.num_heads);
    finish(args.k_norm, k.data(), shape.num_kv_heads);
    WriteSlots(args, row, k.data(), v.data());
  }
}

// One head of one row over the positions it sees.
void ReferenceBackend::AttendHead(const AttentionArgs& args, const SequenceRows& sequence, int row,
                                  int head) {
  const AttentionShape& shape = args.shape;
  const int kv_head = head / (shape.num_heads / shape.num_kv_heads);
  const int32_t last = batch_.positions[row];
  const int32_t first = shape.window > 0 ? std::max(0, last - shape.window + 1) : 0;
  const auto slot_of = [&](int32_t position, bool is_value) {
    VERNIER_CHECK(position / kBlockTokens < sequence.num_blocks);
    const int32_t block = batch_.blocks[sequence.first_block + position / kBlockTokens];
    return Slot(args.layer, is_value, kv_head, block * kBlockTokens + position % kBlockTokens,
                shape, args.kv_type);
  };

  const float* q = query_.values.get() + row * QueryWidth() + int64_t{head} * shape.head_dim;
  std::vector<double> weights(last - first + 1);
  for (int32_t position = first; position <= last; ++position) {
    const SlotHead k = slot_of(position, false);
    double dot = 0;
    for (int i = 0; i < shape.head_dim; ++i) {
      dot += static_cast<double>(q[i]) * DecodeKv(args.kv_type, k.values, i);
    }
    weights[position - first] = dot * k.Scale() * shape.scale;
  }
  const double largest = *std::max_element(weights.begin(), weights.end());
  double total = 0;
  for (double& weight : weights) total += weight = std::exp(weight - largest);

  std::vector<double> sums(shape.head_dim);
  for (int32_t position = first; position <= last; ++position) {
    const SlotHead v = slot_of(position, true);
    for (int i = 0; i < shape.head_dim; ++i) {
      sums[i] += weights[position - first] * v.Scale() * DecodeKv(args.kv_type, v.values, i);
    }
  }
  float* out = attention_.values.get() + row * QueryWidth() + int64_t{head} * shape.head_dim;
  for (int i = 0; i < shape.head_dim; ++i) out[i] = static_cast<float>(sums[i] / total);
}

void ReferenceBackend::Attention(const AttentionArgs& args) {
  VERNIER_CHECK(in_step_);
  for (const SequenceRows& sequence : batch_.sequences) {
    for (int row = sequence.first_row; row < sequence.first_row + sequence.num_rows; ++row) {
      for (int head = 0; head < args.shape.num_heads; ++head) {
        AttendHead(args, sequence, row, head);
      }
    }
  }
}

// `input` is [rows, width].
void ReferenceBackend::AddToResidual(const ResidualArgs& args, const float* input, int64_t width) {
  VERNIER_CHECK(in_step_ && args.linear.weight->cols == width);
  std::vector<float> x(input, input + batch_.num_rows * width), sum(plan_.hidden);
  RoundInputs(args.linear, x);
  for (int row = 0; row < batch_.num_rows; ++row) {
    Multiply(args.linear, x.data() + row * width, sum.data());
    if (args.post_norm != nullptr) Normalize(*args.post_norm, sum.data(), sum.data());
    float* residual = residual_.values.get() + row * plan_.hidden;
    for (int64_t i = 0; i < plan_.hidden; ++i) residual[i] += sum[i];
  }
}

void ReferenceBackend::AttentionOut(const ResidualArgs& args) {
  AddToResidual(args, attention_.values.get(), QueryWidth());
}

void ReferenceBackend::MlpIn(const MlpInArgs& args) {
  VERNIER_CHECK(in_step_ && args.up.weight->rows == plan_.intermediate);
  const std::vector<float> all = NormalizeRows(args.norm, args.up, all_rows_);
  std::vector<float> gate(plan_.intermediate), up(plan_.intermediate);
  for (int row = 0; row < batch_.num_rows; ++row) {
    const float* x = all.data() + row * plan_.hidden;
    Multiply(args.up, x, up.data());
    float* hidden = hidden_.values.get() + row * plan_.intermediate;
    const bool gated = args.gate.weight != nullptr;
    if (gated) Multiply(args.gate, x, gate.data());
    for (int64_t i = 0; i < plan_.intermediate; ++i) {
      const double active = Activate(args.activation, gated ? gate[i] : up[i]);
      hidden[i] = static_cast<float>(gated ? active * up[i] : active);
    }
  }
}

void ReferenceBackend::MlpOut(const ResidualArgs& args) {
  AddToResidual(args, hidden_.values.get(), plan_.intermediate);
}

void ReferenceBackend::LmHead(const LmHeadArgs& args) {
  VERNIER_CHECK(in_step_ && args.linear.weight->rows == plan_.vocab);
  VERNIER_CHECK(args.buffer >= 0 && args.buffer < kLogitBuffers);
  const std::vector<float> all = NormalizeRows(args.norm, args.linear, batch_.logit_rows);
  float* logits = logits_[args.buffer].values.get();
  for (size_t row = 0; row < batch_.logit_rows.size(); ++row) {
    Multiply(args.linear, all.data() + row * plan_.hidden, logits);
    for (int64_t i = 0; i < plan_.vocab && args.soft_cap > 0; ++i) {
      logits[i] = static_cast<float>(args.soft_cap *
                                     std::tanh(static_cast<double>(logits[i]) / args.soft_cap));
    }
    logits += plan_.vocab;
  }
}

std::span<const float> ReferenceBackend::Logits(int buffer, int index) const {
  VERNIER_CHECK(buffer >= 0 && buffer < kLogitBuffers);
  VERNIER_CHECK(index >= 0 && index < plan_.max_logit_rows);
  return {logits_[buffer].values.get() + index * plan_.vocab, static_cast<size_t>(plan_.vocab)};
}

void ReferenceBackend::Sample(std::span<const SampleRow> rows, std::span<SampleResult> results) {
  VERNIER_CHECK(in_step_ && rows.size() == results.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    results[i] = SampleRowFromLogits(Logits(0, rows[i].logit_index), rows[i], &scratch_);
  }
}

void ReferenceBackend::Score(const ScoreArgs& args) {
  VERNIER_CHECK(in_step_ && args.rows.size() == args.results.size());
  for (size_t i = 0; i < args.rows.size(); ++i) {
    const int index = args.rows[i].logit_index;
    std::span<const float> reference;
    if (args.reference_buffer >= 0) reference = Logits(args.reference_buffer, index);
    args.results[i] = ScoreRowFromLogits(Logits(args.buffer, index), reference, args.rows[i],
                                         args.overlap_k, &scratch_);
  }
}

absl::Status ReferenceBackend::CopyActivation(Activation which, std::span<float> out) {
  const int64_t rows = batch_.num_rows;
  const auto logit_rows = static_cast<int64_t>(batch_.logit_rows.size());
  const auto copy = [&](const Buffer<float>& from, int64_t size) -> absl::Status {
    if (static_cast<int64_t>(out.size()) != size) {
      return absl::FailedPreconditionError(
          absl::StrCat("activation has ", size, " values, room for ", out.size()));
    }
    std::copy_n(from.values.get(), size, out.data());
    return absl::OkStatus();
  };
  switch (which) {
    case Activation::kResidual:
      return copy(residual_, rows * plan_.hidden);
    case Activation::kQuery:
      return copy(query_, rows * QueryWidth());
    case Activation::kAttention:
      return copy(attention_, rows * QueryWidth());
    case Activation::kHidden:
      return copy(hidden_, rows * plan_.intermediate);
    case Activation::kLogits:
      return copy(logits_[0], logit_rows * plan_.vocab);
    case Activation::kReferenceLogits:
      return copy(logits_[1], logit_rows * plan_.vocab);
  }
  return absl::InvalidArgumentError("unknown activation");
}

}  // namespace

std::unique_ptr<Backend> MakeReferenceBackend() { return std::make_unique<ReferenceBackend>(); }

}  // namespace vernier
