#include "engine/model/load_tensors.h"

#include <chrono>
#include <future>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"

namespace vernier {
namespace {

// Counts tensors and asks whether to go on.
class ProgressCounter {
 public:
  ProgressCounter(const TensorSource& checkpoint, const LoadPlan& plan,
                  const LoadProgressFunction& report)
      : report_(report) {
    for (const TensorInfo& tensor : checkpoint.tensors()) bytes_of_[tensor.name] = tensor.bytes;
    progress_.tensors_total = static_cast<int64_t>(plan.matrices.size() + plan.vectors.size());
    for (const MatrixPlan& matrix : plan.matrices) progress_.bytes_total += bytes_of_[matrix.name];
    for (const VectorPlan& vector : plan.vectors) progress_.bytes_total += bytes_of_[vector.name];
  }
  absl::Status Report() const {
    if (report_ == nullptr || report_(progress_)) return absl::OkStatus();
    return absl::CancelledError(absl::StrCat("loading was cancelled after ", progress_.tensors_done,
                                             " of ", progress_.tensors_total, " tensors"));
  }
  absl::Status Done(const std::string& tensor) {
    ++progress_.tensors_done;
    progress_.bytes_done += bytes_of_[tensor];
    return Report();
  }

 private:
  const LoadProgressFunction& report_;
  std::unordered_map<std::string, int64_t> bytes_of_;
  LoadProgress progress_;
};

// Formats of `plan` that the model does not have of that tensor.
std::vector<FormatId> Missing(const MatrixPlan& plan, const Model& model) {
  std::vector<FormatId> missing;
  for (const FormatId format : plan.formats) {
    if (!model.weights.contains({plan.name, format})) missing.push_back(format);
  }
  return missing;
}

// Reads one tensor ahead of what is being packed, so that storage and processors work at once. The
// bytes of at most two tensors are in memory. Those that have every format are not read.
class MatrixReader {
 public:
  MatrixReader(const TensorSource& checkpoint, const std::vector<MatrixPlan>& matrices,
               const Model& model)
      : checkpoint_(checkpoint) {
    for (const MatrixPlan& matrix : matrices) {
      if (!Missing(matrix, model).empty()) names_.push_back(&matrix.name);
    }
    Begin();
  }
  // Of each matrix that lacks a format in turn.
  absl::StatusOr<WeightSource> Next() {
    absl::StatusOr<WeightSource> source = reading_.get();
    ++index_;
    Begin();
    return source;
  }

 private:
  void Begin() {
    if (index_ == names_.size()) return;
    reading_ = std::async(std::launch::async,
                          [this, i = index_] { return checkpoint_.OpenMatrix(*names_[i]); });
  }

  const TensorSource& checkpoint_;
  std::vector<const std::string*> names_;
  size_t index_ = 0;
  std::future<absl::StatusOr<WeightSource>> reading_;  // waits when it goes
};

absl::Status PackMatrix(const absl::StatusOr<WeightSource>& source, const MatrixPlan& plan,
                        const std::vector<FormatId>& formats, Backend* backend, Model* model) {
  if (!source.ok()) return source.status();
  if (source->rows != plan.rows || source->cols != plan.cols) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", plan.name, " is [", source->rows,
                                                   ", ", source->cols, "], the config makes it [",
                                                   plan.rows, ", ", plan.cols, "]"));
  }
  absl::StatusOr<std::vector<Weight>> packed = backend->CreateWeights(*source, formats);
  if (!packed.ok()) return packed.status();
  VERNIER_CHECK(packed->size() == formats.size());
  for (size_t i = 0; i < formats.size(); ++i) {
    model->weights[{plan.name, formats[i]}] =
        std::make_unique<const Weight>(std::move((*packed)[i]));
  }
  return absl::OkStatus();
}

absl::Status LoadMatrix(const MatrixPlan& plan, MatrixReader* reader, Backend* backend,
                        Model* model) {
  if (const std::vector<FormatId> missing = Missing(plan, *model); !missing.empty()) {
    if (absl::Status status = PackMatrix(reader->Next(), plan, missing, backend, model);
        !status.ok()) {
      return status;
    }
  }
  for (const MatrixPlan::Use& use : plan.uses) {
    *use.target = model->weights.at({plan.name, plan.formats[use.format]}).get();
  }
  return absl::OkStatus();
}

absl::Status LoadVector(const TensorSource& checkpoint, const VectorPlan& plan, Backend* backend,
                        Model* model) {
  std::unique_ptr<const Vector>& own = model->vectors[plan.name];
  if (own == nullptr) {
    const absl::StatusOr<std::vector<float>> values = checkpoint.ReadVector(plan.name);
    if (!values.ok()) return values.status();
    if (static_cast<int64_t>(values->size()) != plan.size) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", plan.name, " has ", values->size(),
                                                     " values, the config makes it ", plan.size));
    }
    absl::StatusOr<Vector> vector = backend->CreateVector(*values);
    if (!vector.ok()) return vector.status();
    own = std::make_unique<const Vector>(*std::move(vector));
  }
  for (const Vector** target : plan.targets) *target = own.get();
  return absl::OkStatus();
}

}  // namespace

absl::Status LoadTensors(const TensorSource& checkpoint, const LoadPlan& plan, Backend* backend,
                         const LoadProgressFunction& report, Model* model) {
  using Clock = std::chrono::steady_clock;
  ProgressCounter progress(checkpoint, plan, report);
  if (absl::Status status = progress.Report(); !status.ok()) return status;
  MatrixReader reader(checkpoint, plan.matrices, *model);
  for (const MatrixPlan& matrix : plan.matrices) {
    const Clock::time_point start = Clock::now();
    if (absl::Status status = LoadMatrix(matrix, &reader, backend, model); !status.ok()) {
      return status;
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    for (const MatrixPlan::Use& use : matrix.uses) {
      Renewed<double>& total = model->variants[use.variant].load_seconds;
      total = total + seconds / static_cast<double>(matrix.uses.size());
    }
    if (absl::Status status = progress.Done(matrix.name); !status.ok()) return status;
  }
  for (const VectorPlan& vector : plan.vectors) {
    if (absl::Status status = LoadVector(checkpoint, vector, backend, model); !status.ok()) {
      return status;
    }
    if (absl::Status status = progress.Done(vector.name); !status.ok()) return status;
  }
  return absl::OkStatus();
}

void DropUnusedWeights(Model* model) {
  std::unordered_set<const Weight*> used;
  for (const Variant& variant : model->variants) {
    for (const Weight* weight : WeightsOf(variant)) used.insert(weight);
  }
  std::erase_if(model->weights,
                [&](const auto& owned) { return !used.contains(owned.second.get()); });
}

}  // namespace vernier
