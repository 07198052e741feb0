// Decode steps as CUDA graphs: the same calls on the same number of rows are recorded once and
// replayed.
//
// Device thread alone.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "kernels/cuda/layer_runner.h"

namespace vernier::cuda {

// Everything that a recorded step depends on, but for the contents of device memory: the calls with
// the device addresses of their weights, and the counts of the batch.
uint64_t FingerprintOf(std::span<const Call> calls, const DeviceBatch& batch);

// The rows that a decode step of `rows` is padded to: a few sizes, at most a quarter more.
int PaddedRows(int rows);

class StepGraphs {
 public:
  explicit StepGraphs(cudaStream_t stream) : stream_(stream) {}

  // Queues the step with this fingerprint: replays it, or runs `queue`, or records what `queue`
  // does and replays that. A step is recorded the second time it comes, so that what comes once
  // costs nothing, and after everything in it has been used once.
  absl::Status Run(uint64_t fingerprint, absl::FunctionRef<absl::Status()> queue);

 private:
  struct Destroy {
    void operator()(cudaGraphExec_t graph) const { cudaGraphExecDestroy(graph); }
  };
  using Graph = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, Destroy>;

  absl::StatusOr<Graph> Record(absl::FunctionRef<absl::Status()> queue);

  const cudaStream_t stream_;
  std::unordered_map<uint64_t, Graph> graphs_;  // null: seen once
};

}  // namespace vernier::cuda
