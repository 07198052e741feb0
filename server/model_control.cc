#include "server/model_control.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/log.h"
#include "server/self_test.h"

namespace vernier {
namespace {

std::string Mebibytes(int64_t bytes) {
  return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / (1 << 20));
}

}  // namespace

ModelControl::ModelControl(ModelControlOptions options, Model* model, Engine* engine,
                           std::unique_ptr<Backend> packer, HealthBoard* health, Metrics* metrics)
    : options_(std::move(options)),
      model_(model),
      engine_(engine),
      packer_(std::move(packer)),
      health_(health),
      metrics_(metrics),
      loader_(options_.model_path, options_.specs, model, packer_.get()),
      worker_(std::make_unique<TaskPool>(1)) {
  loader_.Settle();  // variants may have failed since the model was loaded
}

ModelControl::~ModelControl() {
  stopping_ = true;
  worker_.reset();
}

absl::Status ModelControl::Begin() {
  if (Leaving()) return absl::UnavailableError("the server is draining");
  if (busy_.exchange(true)) {
    return absl::FailedPreconditionError("another variant is being loaded or unloaded");
  }
  return absl::OkStatus();
}

void ModelControl::Post(std::function<void()> work, std::function<void()> done) {
  worker_->Post([this, work = std::move(work), done = std::move(done)] {
    work();
    busy_ = false;  // whoever hears of the end may begin the next
    done();
  });
}

absl::StatusOr<MemoryPlan> ModelControl::Plan(int variant) const {
  const Variant& held = model_->variants[static_cast<size_t>(variant)];
  MemoryPlan plan{.loaded = held.loaded, .available_bytes = options_.available_bytes()};
  if (plan.loaded) {
    plan.cost = {.new_bytes = held.own_bytes, .shared_bytes = held.shared_bytes};
    return plan;
  }
  const auto cost = loader_.Cost(variant);
  if (!cost.ok()) return absl::FailedPreconditionError(cost.status().message());
  plan.cost = *cost;
  return plan;
}

// Costs and states after `variant` came or went.
void ModelControl::Renew(int variant, bool serving) {
  loader_.Settle();
  metrics_->RenewMemory(*model_);
  const std::string& name = model_->variants[static_cast<size_t>(variant)].name;
  health_->Set(absl::StrCat("vernier.v1.Inference/", name), serving && !options_.draining());
}

absl::Status ModelControl::Load(int variant, const LoadProgressFunction& go_on) {
  const Variant& held = model_->variants[static_cast<size_t>(variant)];
  if (held.loaded) {
    return absl::FailedPreconditionError(absl::StrCat("variant ", held.name, " is loaded"));
  }
  const auto plan = Plan(variant);
  if (!plan.ok()) return plan.status();
  if (!plan->Fits()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("variant ", held.name, " needs ", Mebibytes(plan->cost.new_bytes), ", ",
                     Mebibytes(plan->available_bytes), " are available"));
  }
  auto weights = loader_.Load(variant, [&](const LoadProgress& progress) {
    return !Leaving() && (go_on == nullptr || go_on(progress));
  });
  if (Leaving()) {
    loader_.Settle();
    return absl::UnavailableError("the server is draining");
  }
  if (!weights.ok()) {
    if (absl::IsResourceExhausted(weights.status())) metrics_->DeviceFailed(weights.status());
    return weights.status();
  }
  if (absl::Status status = engine_->LoadVariant(variant, *std::move(weights)); !status.ok()) {
    loader_.Settle();
    return status;
  }
  // A request that comes meanwhile is served: the door opens with the weights.
  const absl::Status tested =
      SelfTest(options_.specs[static_cast<size_t>(variant)], variant, engine_, model_);
  Renew(variant, tested.ok());
  if (absl::IsInvalidArgument(tested)) return absl::FailedPreconditionError(tested.message());
  if (!tested.ok()) return tested;
  Log(LogLevel::kInfo,
      absl::StrCat("loaded variant ", held.name, ", ", Mebibytes(held.own_bytes), " of its own"));
  return absl::OkStatus();
}

absl::StatusOr<int64_t> ModelControl::Unload(int variant, const std::function<bool()>& go_on) {
  const Variant& held = model_->variants[static_cast<size_t>(variant)];
  const std::string name = absl::StrCat("vernier.v1.Inference/", held.name);
  const int64_t before = model_->memory.weight_bytes;
  if (held.loaded) health_->Set(name, false);
  const absl::Status status =
      engine_->UnloadVariant(variant, [&] { return !stopping_ && (go_on == nullptr || go_on()); });
  if (!status.ok()) {
    if (held.loaded) health_->Set(name, !options_.draining());
    return status;
  }
  Renew(variant, false);
  const int64_t freed = before - model_->memory.weight_bytes;
  Log(LogLevel::kInfo,
      absl::StrCat("unloaded variant ", held.name, ", ", Mebibytes(freed), " freed"));
  return freed;
}

}  // namespace vernier
