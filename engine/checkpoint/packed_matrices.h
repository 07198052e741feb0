// The quantized matrices of a Hugging Face folder: its tensors, put together by the rows of
// quant_schemes.h.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/packed_tensor.h"
#include "engine/checkpoint/quant_config.h"
#include "engine/checkpoint/quant_schemes.h"

namespace vernier {

struct PackedMatrix {
  std::string weight_name;  // as it would be called unpacked: "model.layers.0.mlp.up_proj.weight"
  PackedTensor tensor;      // the whole matrix; parts have no checksum yet
};

struct PackedMatrices {
  std::vector<PackedMatrix> matrices;
  std::vector<bool> is_part;  // of each of the tensors: it belongs to one of the matrices
};

// The matrices that `tensors`, of all files of the folder, hold packed in a layout of the settings'
// method. INVALID_ARGUMENT naming the file, the tensor, the value and what was expected for a name
// that is there twice and for a part that is missing; the errors of QuantScheme::locate.
absl::StatusOr<PackedMatrices> FindPacked(const QuantSettings& settings,
                                          std::span<const FileTensor> tensors);

}  // namespace vernier
