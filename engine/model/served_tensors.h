// The tensors of a model that is served: from memory where a weight there has their values to the
// bit, else from its files.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/model/model.h"
#include "kernels/backend.h"

namespace vernier {

// A weight in fp32 has the values of any file, one in fp16 or bf16 those of a file of that type;
// what was rounded is not a source. Which weights there are is looked up at the start, and their
// bytes are kept: a load adds to the model's weights while the next tensor is opened ahead. The
// files are opened when the first tensor is wanted that no weight has. One thread at a time.
class ServedTensors : public TensorSource {
 public:
  // `model` was loaded from `path` and outlives this; `backend` knows the layout of its weights.
  ServedTensors(std::string path, const Model* model, const Backend* backend);

  const ModelConfig& config() const override { return model_->config; }
  const std::vector<TensorInfo>& tensors() const override { return model_->tensors; }
  bool Has(const std::string& name) const override;
  absl::StatusOr<WeightSource> OpenMatrix(const std::string& name) const override;
  absl::StatusOr<std::vector<float>> ReadVector(const std::string& name) const override;

  // Whether OpenMatrix would read a file.
  bool NeedsFile(const std::string& name) const { return !resident_.contains(name); }
  // FAILED_PRECONDITION when files were opened whose digest is not the served one; INVALID_ARGUMENT
  // naming one that changed since.
  absl::Status CheckFiles() const;

 private:
  absl::StatusOr<const Checkpoint*> Files() const;

  const std::string path_;
  const Model* const model_;
  std::map<std::string, WeightSource> resident_;
  mutable std::unique_ptr<Checkpoint> files_;  // null until a file is needed
};

}  // namespace vernier
