#include "engine/model/variant_loader.h"

#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/model/load_plan.h"
#include "engine/model/load_tensors.h"
#include "kernels/base/check.h"

namespace vernier {
namespace {

absl::StatusOr<LoadPlan> PlanOne(const Checkpoint& checkpoint,
                                 const std::vector<VariantSpec>& specs, int variant,
                                 VariantWeights* weights) {
  std::vector<VariantWeights*> targets(specs.size());
  targets[static_cast<size_t>(variant)] = weights;
  return PlanLoad(checkpoint, specs, targets);
}

absl::Status CheckServed(const Checkpoint& checkpoint, const Model& model) {
  const absl::StatusOr<std::string> digest = checkpoint.WeightsSha256();
  if (!digest.ok()) return digest.status();
  if (*digest != model.weights_sha256) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the weights on disk have SHA-256 ", digest->substr(0, 12), ", those that are served ",
        model.weights_sha256.substr(0, 12), ": restart to serve other weights"));
  }
  return checkpoint.CheckUnchanged();
}

}  // namespace

VariantLoader::VariantLoader(std::string path, std::vector<VariantSpec> specs, Model* model,
                             Backend* packer)
    : path_(std::move(path)), specs_(std::move(specs)), model_(model), packer_(packer) {
  VERNIER_CHECK(specs_.size() == model_->variants.size());
}

absl::StatusOr<VariantCost> VariantLoader::Cost(int variant) const {
  const auto checkpoint = Checkpoint::Open(path_);
  if (!checkpoint.ok()) return checkpoint.status();
  VariantWeights weights;
  const absl::StatusOr<LoadPlan> plan = PlanOne(**checkpoint, specs_, variant, &weights);
  if (!plan.ok()) return plan.status();
  std::unordered_map<std::string, int64_t> file_bytes;
  for (const TensorInfo& tensor : (*checkpoint)->tensors()) file_bytes[tensor.name] = tensor.bytes;
  VariantCost cost;
  for (const MatrixPlan& matrix : plan->matrices) {
    bool read = false;
    for (const FormatId format : matrix.formats) {
      const auto held = model_->weights.find({matrix.name, format});
      if (held != model_->weights.end()) {
        cost.shared_bytes += held->second->bytes;
      } else {
        cost.new_bytes += FormatBytes(format, matrix.rows, matrix.cols);
        read = true;
      }
    }
    if (read) cost.read_bytes += file_bytes[matrix.name];
  }
  return cost;
}

absl::Status VariantLoader::LoadInto(int variant, const LoadProgressFunction& progress,
                                     VariantWeights* weights) {
  const auto checkpoint = Checkpoint::Open(path_);
  if (!checkpoint.ok()) return checkpoint.status();
  const absl::StatusOr<LoadPlan> plan = PlanOne(**checkpoint, specs_, variant, weights);
  if (!plan.ok()) return plan.status();
  model_->variants[static_cast<size_t>(variant)].load_seconds = 0;
  if (absl::Status status = LoadTensors(**checkpoint, *plan, packer_, progress, model_);
      !status.ok()) {
    return status;
  }
  return CheckServed(**checkpoint, *model_);
}

absl::StatusOr<VariantWeights> VariantLoader::Load(int variant,
                                                   const LoadProgressFunction& progress) {
  VariantWeights weights;
  if (absl::Status status = LoadInto(variant, progress, &weights); !status.ok()) {
    DropUnusedWeights(model_);
    // A file that is not what it was is the server's state, whoever asks.
    return absl::IsInvalidArgument(status) || absl::IsNotFound(status)
               ? absl::FailedPreconditionError(status.message())
               : status;
  }
  return weights;
}

void VariantLoader::Settle() {
  DropUnusedWeights(model_);
  AccountMemory(model_);
}

}  // namespace vernier
