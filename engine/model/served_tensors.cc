#include "engine/model/served_tensors.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

namespace vernier {
namespace {

// Formats that keep every value of a file of the type ("": any type).
struct Exact {
  FormatId format;
  const char* type;
};
constexpr Exact kExact[] = {
    {FormatId::kF16, "f16"}, {FormatId::kBF16, "bf16"}, {FormatId::kF32, ""}};

}  // namespace

ServedTensors::ServedTensors(std::string path, const Model* model, const Backend* backend)
    : path_(std::move(path)), model_(model) {
  for (const TensorInfo& tensor : model->tensors) {
    for (const Exact& exact : kExact) {
      if (exact.type[0] != '\0' && tensor.type != exact.type) continue;
      const auto held = model->weights.find({tensor.name, exact.format});
      if (held == model->weights.end()) continue;
      std::optional<WeightSource> values = backend->Values(*held->second);
      if (!values.has_value()) continue;
      values->name = tensor.name;
      resident_.emplace(tensor.name, *std::move(values));
      break;
    }
  }
}

bool ServedTensors::Has(const std::string& name) const {
  return std::any_of(model_->tensors.begin(), model_->tensors.end(),
                     [&](const TensorInfo& tensor) { return tensor.name == name; });
}

absl::StatusOr<WeightSource> ServedTensors::OpenMatrix(const std::string& name) const {
  if (const auto held = resident_.find(name); held != resident_.end()) return held->second;
  const auto files = Files();
  if (!files.ok()) return files.status();
  return (*files)->OpenMatrix(name);
}

absl::StatusOr<std::vector<float>> ServedTensors::ReadVector(const std::string& name) const {
  const auto files = Files();
  if (!files.ok()) return files.status();
  return (*files)->ReadVector(name);
}

absl::StatusOr<const Checkpoint*> ServedTensors::Files() const {
  if (files_ == nullptr) {
    auto opened = Checkpoint::Open(path_);
    if (!opened.ok()) return opened.status();
    files_ = *std::move(opened);
  }
  return files_.get();
}

absl::Status ServedTensors::CheckFiles() const {
  if (files_ == nullptr) return absl::OkStatus();
  const absl::StatusOr<std::string> digest = files_->WeightsSha256();
  if (!digest.ok()) return digest.status();
  if (*digest != model_->weights_sha256) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the weights on disk have SHA-256 ", digest->substr(0, 12), ", those that are served ",
        model_->weights_sha256.substr(0, 12), ": restart to serve other weights"));
  }
  return files_->CheckUnchanged();
}

}  // namespace vernier
