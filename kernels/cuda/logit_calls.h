// Sample and Score of the door: their arguments on the way to the device, their results on the way
// back.
//
// Device thread alone. Only what the rows ask for comes back: ids, and log-probabilities where one
// is wanted.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "kernels/backend.h"
#include "kernels/cuda/logit_rows.h"
#include "kernels/cuda/workspace.h"

namespace vernier::cuda {

class LogitCalls {
 public:
  // Both must outlive this.
  LogitCalls(Workspace* workspace, cudaStream_t stream) : workspace_(*workspace), stream_(stream) {}

  // Queue the call; spans of results must live until Deliver.
  absl::Status Sample(std::span<const SampleRow> rows, std::span<SampleResult> results);
  absl::Status Score(const ScoreArgs& args);

  // Fills the results. REQUIRES: the stream has been synchronized.
  void Deliver();
  // The step has failed: nobody waits for its results.
  void Forget() { pending_.clear(); }

 private:
  // One call whose results are in pinned memory, or on their way there.
  struct Pending {
    std::span<SampleResult> samples;
    std::span<ScoreResult> scores;
    const DeviceSample* from_samples = nullptr;
    const DeviceTop* from_tops = nullptr;  // null: no row asked for any
    const DeviceScore* from_scores = nullptr;
  };

  // `bytes` of pinned memory, after waiting for the stream where there are none left.
  absl::StatusOr<uint8_t*> Take(Staging* staging, int64_t bytes);
  absl::StatusOr<const uint8_t*> CopyBack(const void* from, int64_t bytes);

  Workspace& workspace_;
  const cudaStream_t stream_;
  std::vector<Pending> pending_;
};

}  // namespace vernier::cuda
