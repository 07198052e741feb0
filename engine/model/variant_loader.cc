#include "engine/model/variant_loader.h"

#include <unordered_map>
#include <utility>

#include "engine/model/load_plan.h"
#include "engine/model/load_tensors.h"
#include "engine/model/served_tensors.h"
#include "kernels/base/check.h"

namespace vernier {
namespace {

absl::StatusOr<LoadPlan> PlanOne(const TensorSource& tensors, const std::vector<VariantSpec>& specs,
                                 int variant, VariantWeights* weights) {
  std::vector<VariantWeights*> targets(specs.size());
  targets[static_cast<size_t>(variant)] = weights;
  return PlanLoad(tensors, specs, targets);
}

}  // namespace

VariantLoader::VariantLoader(std::string path, std::vector<VariantSpec> specs, Model* model,
                             Backend* packer)
    : path_(std::move(path)), specs_(std::move(specs)), model_(model), packer_(packer) {
  VERNIER_CHECK(specs_.size() == model_->variants.size());
}

absl::StatusOr<VariantCost> VariantLoader::Cost(int variant) const {
  const ServedTensors tensors(path_, model_, packer_);
  VariantWeights weights;
  const absl::StatusOr<LoadPlan> plan = PlanOne(tensors, specs_, variant, &weights);
  if (!plan.ok()) return plan.status();
  std::unordered_map<std::string, int64_t> file_bytes;
  for (const TensorInfo& tensor : tensors.tensors()) file_bytes[tensor.name] = tensor.bytes;
  VariantCost cost;
  for (const MatrixPlan& matrix : plan->matrices) {
    bool packed = false;
    for (const FormatId format : matrix.formats) {
      const auto held = model_->weights.find({matrix.name, format});
      if (held != model_->weights.end()) {
        cost.shared_bytes += held->second->bytes;
      } else {
        cost.new_bytes += FormatBytes(format, matrix.rows, matrix.cols);
        packed = true;
      }
    }
    if (packed && tensors.NeedsFile(matrix.name)) cost.read_bytes += file_bytes[matrix.name];
  }
  return cost;
}

absl::Status VariantLoader::LoadInto(int variant, const LoadProgressFunction& progress,
                                     VariantWeights* weights) {
  const ServedTensors tensors(path_, model_, packer_);
  const absl::StatusOr<LoadPlan> plan = PlanOne(tensors, specs_, variant, weights);
  if (!plan.ok()) return plan.status();
  model_->variants[static_cast<size_t>(variant)].load_seconds = 0;
  if (absl::Status status = LoadTensors(tensors, *plan, packer_, progress, model_); !status.ok()) {
    return status;
  }
  return tensors.CheckFiles();
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
