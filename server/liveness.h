// Watches that the daemon is alive: the engine's heartbeat is fresh and the serving port answers.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "kernels/base/mutex.h"
#include "server/health_board.h"
#include "server/metrics.h"

namespace vernier {

struct LivenessOptions {
  absl::Duration period = absl::Seconds(5);
  // A step may take long on a slow CPU, but never this long.
  absl::Duration heartbeat_limit = absl::Seconds(10);
};

// One thread. Sets the health name `liveness`; overload never makes it false.
class Liveness {
 public:
  // `dial` asks the serving port; `engine_lost` is called once, when the engine reports that its
  // device failed or its heartbeat has been too old for two periods.
  Liveness(const LivenessOptions& options, const Engine* engine, const Clock* clock,
           HealthBoard* health, Metrics* metrics, std::function<absl::Status()> dial,
           std::function<void(const absl::Status&)> engine_lost);
  ~Liveness();

  // One look, as the thread does it every period.
  void Check();

 private:
  void Run();

  const LivenessOptions options_;
  const Engine* const engine_;
  const Clock* const clock_;
  HealthBoard* const health_;
  Metrics* const metrics_;
  const std::function<absl::Status()> dial_;
  const std::function<void(const absl::Status&)> engine_lost_;
  absl::Duration looked_;  // the end of the last look
  int stale_looks_ = 0;
  bool told_ = false;

  Mutex mutex_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace vernier
