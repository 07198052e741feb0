// The layouts of quantized matrices in Hugging Face files, one row each: which of a file's tensors
// make a matrix, and how its values lie in them.
//
// Sources: bitsandbytes' QuantState and Linear8bitLt, AutoGPTQ's QuantLinear and GPTQModel's
// conversion of formats, AutoAWQ's WQLinear_GEMM, the compressors of compressed-tensors. Matrices
// are [outputs, inputs] whatever the layer was: GPT-2's Conv1D is transposed before it is
// quantized. To add a layout: a row and its locate function in quant_schemes.cc, a model in
// tests/tools/make_prequantized_models.py.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/checkpoint/packed_tensor.h"
#include "engine/checkpoint/quant_config.h"
#include "engine/checkpoint/random_access_file.h"
#include "engine/checkpoint/safetensors.h"

namespace vernier {

struct FileTensor {
  std::shared_ptr<const RandomAccessFile> file;
  SafetensorsEntry entry;
};

// One of the tensors that make a matrix.
struct PartRow {
  PackedRole role;
  absl::string_view suffix;  // behind the module's name
  absl::string_view types;   // of safetensors, a blank between them; empty: any
  bool required = true;
};

// A matrix's tensors by role.
class PartsFound {
 public:
  void Add(PackedRole role, const FileTensor* tensor) {
    tensors_[static_cast<size_t>(role)] = tensor;
  }
  // Null when it is not there.
  const FileTensor* Find(PackedRole role) const { return tensors_[static_cast<size_t>(role)]; }
  // REQUIRES, here and below: it is there.
  const SafetensorsEntry& Of(PackedRole role) const { return Find(role)->entry; }

  // INVALID_ARGUMENT naming the file and the tensor.
  template <typename... Args>
  absl::Status Wrong(PackedRole role, const Args&... what) const {
    return absl::InvalidArgumentError(
        absl::StrCat(Find(role)->file->path(), ": tensor ", Of(role).name, " ", what...));
  }
  // Unless the tensor is not there, or has these dimensions.
  absl::Status CheckShape(PackedRole role, const std::vector<int64_t>& expected) const;
  // Unless it has two dimensions, neither of them 0.
  absl::Status CheckMatrix(PackedRole role) const;

 private:
  std::array<const FileTensor*, kNumPackedRoles> tensors_{};
};

struct QuantScheme {
  QuantMethod method;
  // A module that has the first of them is packed so; the first scheme that fits is taken.
  std::span<const PartRow> parts;
  // Fills in all of the tensor but its parts, which are there and of their types. INVALID_ARGUMENT
  // naming the file, the tensor, the value and what was expected; UNIMPLEMENTED for FP4. Reads
  // nothing but bitsandbytes' quant_state.
  absl::Status (*locate)(const QuantSettings& settings, const PartsFound& found, PackedTensor* out);
};

std::span<const QuantScheme> QuantSchemes();

}  // namespace vernier
