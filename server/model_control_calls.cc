#include "server/model_control_calls.h"

#include <algorithm>
#include <utility>

#include "server/replies.h"

namespace vernier {
namespace {

uint64_t Unsigned(int64_t bytes) { return static_cast<uint64_t>(std::max<int64_t>(0, bytes)); }

}  // namespace

void ControlCall::Start() {
  if (absl::Status status = control_->Begin(); !status.ok()) return FinishCall(status, nullptr, -1);
  MarkSubmitted();  // from here on the writers answer
  control_->Post(
      [self = shared_from_this(), this] {
        absl::Status status = Work();
        MutexLock lock(&result_mutex_);
        result_ = std::move(status);
      },
      [self = shared_from_this(), this] { Wake(); });
}

void ControlCall::Flush() {
  if (!submitted() || call_finished()) return;
  std::optional<absl::Status> result;
  {
    MutexLock lock(&result_mutex_);
    result = result_;
  }
  Answer(result);
}

absl::Status LoadVariantCall::Work() {
  return control_->Load(variant_, [this](const LoadProgress& progress) {
    {
      MutexLock lock(&progress_mutex_);
      progress_ = progress;
    }
    Wake();
    return go_on();
  });
}

void LoadVariantCall::Answer(const std::optional<absl::Status>& result) {
  if (result.has_value() && (!result->ok() || client_gone()))
    return FinishCall(*result, nullptr, -1);
  if (write_in_flight() || client_gone()) return;
  if (last_written_) return FinishCall(absl::OkStatus(), nullptr, -1);
  std::optional<LoadProgress> progress;
  {
    MutexLock lock(&progress_mutex_);
    progress = std::exchange(progress_, std::nullopt);
  }
  if (progress.has_value()) {
    message_.set_tensors_done(Unsigned(progress->tensors_done));
    message_.set_tensors_total(Unsigned(progress->tensors_total));
    message_.set_bytes_done(Unsigned(progress->bytes_done));
    message_.set_bytes_total(Unsigned(progress->bytes_total));
  }
  if (result.has_value()) {
    *message_.mutable_variant() = DescribeVariant(*served_->model, variant_, v1::READY);
    last_written_ = true;
  } else if (!progress.has_value()) {
    return;
  }
  WriteMessage(message_, clock_->Now());
}

absl::Status UnloadVariantCall::Work() {
  const auto freed = control_->Unload(variant_, [this] { return go_on(); });
  if (!freed.ok()) return freed.status();
  reply_.set_freed_bytes(Unsigned(*freed));
  return absl::OkStatus();
}

void UnloadVariantCall::Answer(const std::optional<absl::Status>& result) {
  if (result.has_value()) FinishCall(*result, result->ok() ? &reply_ : nullptr, -1);
}

absl::Status PlanMemoryCall::Work() {
  const auto plan = control_->Plan(variant_);
  if (!plan.ok()) return plan.status();
  reply_.set_loaded(plan->loaded);
  reply_.set_own_weight_bytes(Unsigned(plan->cost.new_bytes));
  reply_.set_shared_weight_bytes(Unsigned(plan->cost.shared_bytes));
  reply_.set_read_bytes(Unsigned(plan->cost.read_bytes));
  reply_.set_available_bytes(Unsigned(plan->available_bytes));
  reply_.set_fits(plan->Fits());
  return absl::OkStatus();
}

void PlanMemoryCall::Answer(const std::optional<absl::Status>& result) {
  if (result.has_value()) FinishCall(*result, result->ok() ? &reply_ : nullptr, -1);
}

}  // namespace vernier
