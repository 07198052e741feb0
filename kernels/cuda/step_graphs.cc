#include "kernels/cuda/step_graphs.h"

#include <algorithm>
#include <bit>
#include <type_traits>

#include "kernels/cuda/device_buffer.h"
#include "kernels/cuda/weight_store.h"

namespace vernier::cuda {
namespace {

constexpr size_t kMostGraphs = 512;

class Fingerprint {
 public:
  // As FxHash: a rotation, an exclusive or and a product a word; some thousand words a step.
  void Mix(uint64_t word) { hash_ = (std::rotl(hash_, 5) ^ word) * 0x9e3779b97f4a7c15ull; }
  void Mix(const void* pointer) { Mix(reinterpret_cast<uint64_t>(pointer)); }
  void Mix(float value) { Mix(uint64_t{std::bit_cast<uint32_t>(value)}); }
  void Mix(const Weight* weight) {
    Mix(weight == nullptr ? nullptr : static_cast<const void*>(DeviceWeightOf(*weight).codes));
    if (weight != nullptr) Mix(uint64_t(DeviceWeightOf(*weight).encoding));
  }
  void Mix(const Vector* vector) {
    Mix(vector == nullptr ? nullptr : static_cast<const void*>(vector->values.get()));
  }
  void Mix(const Linear& linear) {
    Mix(linear.weight), Mix(linear.bias), Mix(uint64_t(linear.activations));
  }
  void Mix(const Norm& norm) {
    Mix(uint64_t(norm.kind)), Mix(norm.weight), Mix(norm.bias), Mix(norm.epsilon);
  }
  void Mix(const Norm* norm) { Mix(norm == nullptr ? Norm() : *norm); }
  void Mix(const AttentionShape& shape) {
    Mix(uint64_t(shape.num_heads)), Mix(uint64_t(shape.num_kv_heads));
    Mix(uint64_t(shape.head_dim)), Mix(shape.scale), Mix(uint64_t(shape.window));
  }

  void Mix(const EmbedArgs& args) { Mix(args.table), Mix(args.positions), Mix(args.scale); }
  void Mix(const AttentionInArgs& args) {
    Mix(uint64_t(args.layer)), Mix(args.shape), Mix(uint64_t(args.kv_type)), Mix(args.norm);
    Mix(args.q), Mix(args.k), Mix(args.v), Mix(args.q_norm), Mix(args.k_norm);
    Mix(args.rotary == nullptr ? nullptr : args.rotary->inverse_frequencies);
  }
  void Mix(const AttentionArgs& args) {
    Mix(uint64_t(args.layer)), Mix(args.shape), Mix(uint64_t(args.kv_type));
  }
  void Mix(const ResidualArgs& args) { Mix(args.linear), Mix(args.post_norm); }
  void Mix(const AttentionOutCall& call) { Mix(call.args); }
  void Mix(const MlpOutCall& call) { Mix(call.args); }
  void Mix(const MlpInArgs& args) {
    Mix(args.norm), Mix(args.gate), Mix(args.up), Mix(uint64_t(args.activation));
  }
  void Mix(const LmHeadArgs& args) {
    Mix(args.norm), Mix(args.linear), Mix(args.soft_cap), Mix(uint64_t(args.buffer));
  }
  uint64_t hash() const { return hash_; }

 private:
  uint64_t hash_ = 0;
};

}  // namespace

uint64_t FingerprintOf(std::span<const Call> calls, const DeviceBatch& batch) {
  Fingerprint fingerprint;
  for (const Call& call : calls) {
    fingerprint.Mix(uint64_t(call.index()));
    std::visit([&](const auto& args) { fingerprint.Mix(args); }, call);
  }
  for (const int count : {batch.rows, batch.logit_rows, batch.decode_rows, batch.tiles,
                          batch.tile_rows, batch.cuts.count}) {
    fingerprint.Mix(uint64_t(count));
  }
  for (const DecodeSplit& split : batch.splits) fingerprint.Mix(uint64_t(split.blocks));
  return fingerprint.hash();
}

int PaddedRows(int rows) {
  if (rows <= 2) return rows;
  const int step =
      std::max(static_cast<int>(std::bit_floor(static_cast<unsigned>(rows - 1))) / 4, 1);
  return (rows + step - 1) / step * step;
}

absl::StatusOr<StepGraphs::Graph> StepGraphs::Record(absl::FunctionRef<absl::Status()> queue) {
  cudaError_t error = cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal);
  if (error != cudaSuccess) return StatusOf(error, "recording a step");
  const absl::Status queued = queue();
  cudaGraph_t graph = nullptr;
  error = cudaStreamEndCapture(stream_, &graph);
  cudaGraphExec_t executable = nullptr;
  if (queued.ok() && error == cudaSuccess) error = cudaGraphInstantiate(&executable, graph, 0);
  if (graph != nullptr) cudaGraphDestroy(graph);
  if (!queued.ok()) return queued;
  if (error != cudaSuccess) return StatusOf(error, "recording a step");
  return Graph(executable);
}

absl::Status StepGraphs::Run(uint64_t fingerprint, absl::FunctionRef<absl::Status()> queue) {
  const auto found = graphs_.find(fingerprint);
  if (found == graphs_.end()) {
    if (graphs_.size() >= kMostGraphs) graphs_.clear();
    graphs_.emplace(fingerprint, nullptr);
    return queue();
  }
  if (found->second == nullptr) {
    absl::StatusOr<Graph> graph = Record(queue);
    if (!graph.ok()) return graph.status();
    found->second = *std::move(graph);
  }
  return StatusOf(cudaGraphLaunch(found->second.get(), stream_), "replaying a step");
}

}  // namespace vernier::cuda
