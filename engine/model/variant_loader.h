// Loads and drops variants of a model that is being served.
//
// What is loaded later is to the bit what would have been loaded at the start. Tensors that another
// variant holds in the same format are shared with it; others are packed from a weight that has the
// file's values (ServedTensors), else from the files, whose digest must still be the one that is
// served.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model/model.h"
#include "kernels/backend.h"

namespace vernier {

// Of a variant that is not loaded. Packed bytes without a backend's padding.
struct VariantCost {
  int64_t new_bytes = 0;     // that loading it would add
  int64_t shared_bytes = 0;  // that it would share with what is loaded
  int64_t read_bytes = 0;    // of the files' tensors that would be read
};

// Used by one thread at a time.
class VariantLoader {
 public:
  // `model` was loaded from `path` with `specs`; it and `packer` outlive this. `packer` packs as
  // the backend that serves does, and may pack while that one computes.
  VariantLoader(std::string path, std::vector<VariantSpec> specs, Model* model, Backend* packer);

  // REQUIRES (all): 0 <= variant < the number of specs, and it is not loaded.
  absl::StatusOr<VariantCost> Cost(int variant) const;
  // The weights to serve it with, of which the model is the owner. FAILED_PRECONDITION when the
  // files are not those that are served; otherwise LoadModel's errors. Nothing is left behind then.
  absl::StatusOr<VariantWeights> Load(int variant, const LoadProgressFunction& progress);
  // Frees what no variant points to, and renews the costs of those that are loaded: after the
  // engine has taken weights over, or given them back.
  void Settle();

 private:
  absl::Status LoadInto(int variant, const LoadProgressFunction& progress, VariantWeights* weights);

  const std::string path_;
  const std::vector<VariantSpec> specs_;
  Model* const model_;
  Backend* const packer_;
};

}  // namespace vernier
