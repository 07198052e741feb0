// Brings weights onto the device: reads each source once, encodes and packs there, in every format
// asked for.
//
// Weights that are made one after the other in one encoding lie one after the other in memory, so
// that q, k and v, or gate and up, can be multiplied as one (Join). One thread at a time.
#pragma once

#include <cuda_runtime_api.h>

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cuda/device_buffer.h"
#include "kernels/cuda/device_types.h"

namespace vernier::cuda {

// What Weight::packed points to.
inline const DeviceWeight& DeviceWeightOf(const Weight& weight) {
  return *static_cast<const DeviceWeight*>(weight.packed.get());
}

// Of a weight's codes or values, without scales that lie apart.
int64_t CodeBytesOf(const DeviceWeight& weight);

// The weights as one with their rows one after the other, where memory has them so.
std::optional<DeviceWeight> Join(std::span<const DeviceWeight> weights);

class WeightStore {
 public:
  // Queues on `stream`, which must outlive the store.
  explicit WeightStore(cudaStream_t stream) : stream_(stream) {}

  // As Backend::CreateWeights says.
  absl::StatusOr<std::vector<Weight>> Create(const WeightSource& source,
                                             std::span<const FormatId> formats);
  absl::StatusOr<Vector> CreateVector(std::span<const float> values);

  // Gives back what loading alone needs.
  void ReleaseScratch();

 private:
  // A piece of a larger allocation that all its pieces own.
  struct Piece {
    std::shared_ptr<DeviceBuffer> owner;
    uint8_t* data = nullptr;
  };
  struct Arena {
    std::shared_ptr<DeviceBuffer> slab;
    int64_t used = 0;
    int64_t neighbours_end = 0;  // of the room kept beside the last piece
  };
  // One format of a source on its way.
  struct Target;

  absl::StatusOr<Piece> Take(Arena* arena, int64_t bytes, const WeightSource& source);
  absl::StatusOr<Target> Begin(const WeightSource& source, FormatId format);
  absl::Status Encode(const Target& target, int64_t first_row, int64_t rows, int32_t* bad);
  absl::Status Finish(const WeightSource& source, Target* target);
  absl::Status ReserveScratch(int64_t chunk_values);
  absl::Status ReadChunks(const WeightSource& source, std::span<const Target> targets);

  const cudaStream_t stream_;
  std::map<Encoding, Arena> codes_, scales_;
  Arena vectors_;
  PinnedBuffer staging_[2];  // fp32 values on their way, in turns
  DeviceBuffer chunk_;       // the same on the device
  DeviceBuffer bad_;         // one int32_t a format
};

}  // namespace vernier::cuda
