// Loads and unloads variants for an administrator, one at a time, on a thread of its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/model/variant_loader.h"
#include "server/health_board.h"
#include "server/metrics.h"
#include "server/task_pool.h"

namespace vernier {

struct MemoryPlan {
  bool loaded = false;
  VariantCost cost;             // of a loaded one: what unloading it frees
  int64_t available_bytes = 0;  // < 0: not known
  bool Fits() const { return loaded || available_bytes < 0 || cost.new_bytes <= available_bytes; }
};

struct ModelControlOptions {
  std::string model_path;
  std::vector<VariantSpec> specs;
  std::function<int64_t()> available_bytes;  // see host_memory.h
  std::function<bool()> draining;
};

// Begin and Post: any thread. Plan, Load and Unload: what was posted.
class ModelControl {
 public:
  // All pointers outlive this.
  ModelControl(ModelControlOptions options, Model* model, Engine* engine,
               std::unique_ptr<Backend> packer, HealthBoard* health, Metrics* metrics);
  ~ModelControl();  // what runs is told to stop, and waited for

  // Takes the one place there is. FAILED_PRECONDITION when it is taken, UNAVAILABLE while draining.
  absl::Status Begin();
  // REQUIRES: Begin was good. Gives the place back between `work` and `done`.
  void Post(std::function<void()> work, std::function<void()> done);

  absl::StatusOr<MemoryPlan> Plan(int variant) const;
  // `go_on` is asked after each tensor. Errors as ModelControl's in model_control.proto.
  absl::Status Load(int variant, const LoadProgressFunction& go_on);
  // Bytes freed. `go_on` is asked ten times a second while requests run.
  absl::StatusOr<int64_t> Unload(int variant, const std::function<bool()>& go_on);

 private:
  bool Leaving() const { return stopping_ || options_.draining(); }
  void Renew(int variant, bool serving);

  const ModelControlOptions options_;
  Model* const model_;
  Engine* const engine_;
  const std::unique_ptr<Backend> packer_;
  HealthBoard* const health_;
  Metrics* const metrics_;
  VariantLoader loader_;
  std::atomic<bool> busy_{false};
  std::atomic<bool> stopping_{false};
  std::unique_ptr<TaskPool> worker_;  // one thread; joined first
};

}  // namespace vernier
