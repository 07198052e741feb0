#include <cuda_runtime_api.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/backend.h"
#include "kernels/base/check.h"
#include "kernels/cuda/layer_runner.h"
#include "kernels/cuda/logit_calls.h"
#include "kernels/cuda/module.h"
#include "kernels/cuda/step_graphs.h"
#include "kernels/cuda/weight_store.h"

namespace vernier::cuda {
namespace {

constexpr int kLeastMajor = 8;

// What the kernels made of Hopper's instructions (sm_90a) run on; all others take the portable
// ones.
bool HasHopper(const cudaDeviceProp& device) { return device.major == 9 && device.minor == 0; }

// A stream that frees itself.
class Stream {
 public:
  Stream() = default;
  ~Stream() {
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  absl::Status Create() {
    return StatusOf(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream");
  }
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// Collects the calls of a step, then queues them: as a recorded graph for decode steps. What fails
// in a step that has no status to return is kept for Synchronize.
class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(const CudaOptions& options) : options_(options) {}
  static absl::StatusOr<std::unique_ptr<Backend>> Create(const CudaOptions& options);

  std::string Describe() const override { return description_; }
  int Threads() const override { return 1; }

  absl::StatusOr<std::vector<Weight>> CreateWeights(const WeightSource& source,
                                                    std::span<const FormatId> formats) override {
    return store_->Create(source, formats);
  }
  absl::StatusOr<Vector> CreateVector(std::span<const float> values) override {
    return store_->CreateVector(values);
  }
  bool HasActivations(Activations activations, FormatId format) const override {
    if (activations == Activations::kFull) return true;
    // What products with bf16 weights take anyway.
    if (activations == Activations::kBF16) return format == FormatId::kBF16;
    // With LLM.int8 a row depends on its neighbours by definition.
    if (activations == Activations::kLlmInt8 && options_.deterministic) return false;
    return format == FormatId::kInt8 && !options_.portable;
  }
  bool HasKvType(KvType) const override { return true; }
  absl::Status CreateWorkspace(const WorkspacePlan& plan) override;
  BackendMemory Memory() const override;

  void Execute(const StepKey& key, const Batch& batch, absl::FunctionRef<void()> forward) override;
  absl::Status Synchronize() override;

  void Embed(const EmbedArgs& args) override { Append(args); }
  void AttentionIn(const AttentionInArgs& args) override { Append(args); }
  void Attention(const AttentionArgs& args) override { Append(args); }
  void AttentionOut(const ResidualArgs& args) override { Append(AttentionOutCall{args}); }
  void MlpIn(const MlpInArgs& args) override { Append(args); }
  void MlpOut(const ResidualArgs& args) override { Append(MlpOutCall{args}); }
  void LmHead(const LmHeadArgs& args) override { Append(args); }
  void Sample(std::span<const SampleRow> rows, std::span<SampleResult> results) override;
  void Score(const ScoreArgs& args) override;
  absl::Status CopyActivation(vernier::Activation which, std::span<float> out) override;

 private:
  template <class Args>
  void Append(const Args& args) {
    VERNIER_CHECK(batch_ != nullptr);
    calls_.emplace_back(args);
  }
  // Queues the calls collected so far.
  void Flush();
  absl::Status Queue();
  void CheckBatch(const Batch& batch) const;
  absl::Status CopyOut(const Matrix& from, int64_t values, std::span<float> out) const;

  const CudaOptions options_;
  Stream stream_;
  std::string description_;
  std::unique_ptr<WeightStore> store_;
  std::unique_ptr<Multiplier> multiplier_;
  std::optional<Workspace> workspace_;
  std::optional<LayerRunner> runner_;
  std::optional<LogitCalls> logits_;
  std::optional<StepGraphs> graphs_;

  const Batch* batch_ = nullptr;  // null outside Execute
  std::vector<Call> calls_;
  absl::Status status_;  // of the step
  int64_t num_rows_ = 0, num_logits_[kLogitBuffers] = {};
};

absl::StatusOr<std::unique_ptr<Backend>> CudaBackend::Create(const CudaOptions& asked) {
  int count = 0;
  if (cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    return absl::FailedPreconditionError(
        absl::StrCat("no CUDA device can be used: ", cudaGetErrorString(error)));
  }
  if (count == 0) return absl::FailedPreconditionError("the CUDA driver has no device");
  cudaDeviceProp properties = {};
  if (cudaError_t error = cudaGetDeviceProperties(&properties, 0); error != cudaSuccess) {
    return StatusOf(error, "asking for the device");
  }
  if (properties.major < kLeastMajor) {
    return absl::FailedPreconditionError(
        absl::StrCat(properties.name, " has compute capability ", properties.major, ".",
                     properties.minor, ", this module is made for ", kLeastMajor, ".0 and later"));
  }
  CudaOptions options = asked;
  options.portable = asked.portable || !HasHopper(properties);
  auto backend = std::make_unique<CudaBackend>(options);
  if (absl::Status status = backend->stream_.Create(); !status.ok()) return status;
  const cudaStream_t stream = backend->stream_.get();
  backend->store_ = std::make_unique<WeightStore>(stream);
  absl::StatusOr<std::unique_ptr<Multiplier>> multiplier = Multiplier::Create(stream, options);
  if (!multiplier.ok()) return multiplier.status();
  backend->multiplier_ = *std::move(multiplier);
  backend->description_ = absl::StrCat(
      "cuda ", properties.name, ", ", properties.multiProcessorCount, " multiprocessors, ",
      properties.totalGlobalMem >> 30, " GiB", options.portable ? ", portable kernels" : "",
      options.deterministic ? ", deterministic" : "");
  return backend;
}

absl::Status CudaBackend::CreateWorkspace(const WorkspacePlan& plan) {
  if (workspace_.has_value()) return absl::FailedPreconditionError("there is a workspace already");
  store_->ReleaseScratch();
  absl::StatusOr<Workspace> workspace = Workspace::Create(plan, multiplier_->row_room());
  if (!workspace.ok()) return workspace.status();
  workspace_.emplace(*std::move(workspace));
  runner_.emplace(&*workspace_, multiplier_.get(), options_, stream_.get());
  logits_.emplace(&*workspace_, stream_.get());
  graphs_.emplace(stream_.get());
  return absl::OkStatus();
}

BackendMemory CudaBackend::Memory() const {
  if (!workspace_.has_value()) return {};
  return {.kv_bytes = workspace_->kv.bytes(),
          .workspace_bytes = workspace_->bytes() + multiplier_->workspace_bytes()};
}

void CudaBackend::CheckBatch(const Batch& batch) const {
  const WorkspacePlan& plan = workspace_->plan;
  VERNIER_CHECK(batch.num_rows <= plan.max_rows);
  VERNIER_CHECK(static_cast<int64_t>(batch.logit_rows.size()) <= plan.max_logit_rows);
  for (const int32_t slot : batch.slots) {
    VERNIER_CHECK(slot >= 0 && slot < plan.kv_blocks * kBlockTokens);
  }
  for (const int32_t id : batch.ids) VERNIER_CHECK(id >= 0 && id < plan.vocab);
  for (const int32_t position : batch.positions) {
    VERNIER_CHECK(position >= 0 && position < plan.max_context);
  }
}

void CudaBackend::Execute(const StepKey&, const Batch& batch, absl::FunctionRef<void()> forward) {
  VERNIER_CHECK(workspace_.has_value() && batch_ == nullptr);
  CheckBatch(batch);
  batch_ = &batch;
  calls_.clear();
  forward();
  Flush();
  batch_ = nullptr;
}

void CudaBackend::Flush() {
  if (calls_.empty() || !status_.ok()) return;
  status_ = Queue();
  calls_.clear();
}

absl::Status CudaBackend::Queue() {
  const WorkspacePlan& plan = workspace_->plan;
  const int rows = batch_->num_rows;
  const auto logit_rows = static_cast<int>(batch_->logit_rows.size());
  num_rows_ = rows;
  BatchPlan layout{.cuts = TakesCuts(options_)};
  for (const Call& call : calls_) {
    const auto* head = std::get_if<LmHeadArgs>(&call);
    if (head != nullptr) num_logits_[head->buffer] = logit_rows;
    const auto* attention = std::get_if<AttentionArgs>(&call);
    if (attention == nullptr) continue;
    layout.window = std::max(layout.window, attention->shape.window);
    layout.kv_type = attention->kv_type;
  }
  // Steps of whole decode rows are padded to few sizes and replayed; others differ each time.
  const bool decode = static_cast<int>(batch_->sequences.size()) == rows && logit_rows == rows &&
                      PaddedRows(rows) <= std::min(plan.max_rows, plan.max_logit_rows);
  layout.rows = decode ? PaddedRows(rows) : rows;
  layout.logit_rows = decode ? layout.rows : logit_rows;
  absl::StatusOr<DeviceBatch> batch = UploadBatch(*batch_, layout, stream_.get(), &*workspace_);
  if (!batch.ok()) return batch.status();
  const auto run = [&] { return runner_->Run(calls_, *batch); };
  return decode ? graphs_->Run(FingerprintOf(calls_, *batch), run) : run();
}

absl::Status CudaBackend::Synchronize() {
  const cudaError_t error = cudaStreamSynchronize(stream_.get());
  absl::Status status = std::exchange(status_, absl::OkStatus());
  if (status.ok()) status = StatusOf(error, "a step");
  if (!workspace_.has_value()) return status;
  if (status.ok()) {
    logits_->Deliver();
  } else {
    logits_->Forget();
  }
  workspace_->staging.Reset();
  workspace_->returned.Reset();
  return status;
}

void CudaBackend::Sample(std::span<const SampleRow> rows, std::span<SampleResult> results) {
  VERNIER_CHECK(batch_ != nullptr);
  Flush();
  for (const SampleRow& row : rows) {
    VERNIER_CHECK(row.logit_index >= 0 && row.logit_index < num_logits_[0]);
  }
  if (status_.ok()) status_ = logits_->Sample(rows, results);
}

void CudaBackend::Score(const ScoreArgs& args) {
  VERNIER_CHECK(batch_ != nullptr);
  Flush();
  for (const ScoreRow& row : args.rows) {
    VERNIER_CHECK(row.logit_index >= 0 && row.logit_index < num_logits_[args.buffer]);
  }
  if (status_.ok()) status_ = logits_->Score(args);
}

absl::Status CudaBackend::CopyOut(const Matrix& from, int64_t values, std::span<float> out) const {
  if (static_cast<int64_t>(out.size()) != values) {
    return absl::FailedPreconditionError(
        absl::StrCat("activation has ", values, " values, room for ", out.size()));
  }
  std::vector<uint16_t> bits(from.type == Scalar::kF32 ? 0 : values);
  void* to = bits.empty() ? static_cast<void*>(out.data()) : bits.data();
  const cudaError_t error =
      cudaMemcpy(to, from.data, values * ScalarSize(from.type), cudaMemcpyDeviceToHost);
  if (error != cudaSuccess) return StatusOf(error, "copying an activation");
  for (size_t i = 0; i < bits.size(); ++i) {
    out[i] = from.type == Scalar::kF16 ? F32FromF16(bits[i]) : F32FromBF16(bits[i]);
  }
  return absl::OkStatus();
}

absl::Status CudaBackend::CopyActivation(vernier::Activation which, std::span<float> out) {
  const Workspace& w = *workspace_;
  switch (which) {
    case vernier::Activation::kResidual:
      return CopyOut({w.residual.as<void>(), Scalar::kF32}, num_rows_ * w.plan.hidden, out);
    case vernier::Activation::kQuery:
      return CopyOut({w.query.as<void>(), Scalar::kF32}, num_rows_ * w.query_width(), out);
    case vernier::Activation::kAttention:
      return CopyOut({w.attention.as<void>(), runner_->attention_type()},
                     num_rows_ * w.query_width(), out);
    case vernier::Activation::kHidden:
      return CopyOut({w.hidden.as<void>(), runner_->hidden_type()}, num_rows_ * w.plan.intermediate,
                     out);
    case vernier::Activation::kLogits:
      return CopyOut({w.logits[0].as<void>(), Scalar::kF32}, num_logits_[0] * w.plan.vocab, out);
    case vernier::Activation::kReferenceLogits:
      return CopyOut({w.logits[1].as<void>(), Scalar::kF32}, num_logits_[1] * w.plan.vocab, out);
  }
  return absl::InvalidArgumentError("unknown activation");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(const CudaOptions& options) {
  return CudaBackend::Create(options);
}

}  // namespace vernier::cuda
