#include "server/liveness.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"

namespace vernier {

Liveness::Liveness(const LivenessOptions& options, const Engine* engine, const Clock* clock,
                   HealthBoard* health, Metrics* metrics, std::function<absl::Status()> dial,
                   std::function<void(const absl::Status&)> engine_lost)
    : options_(options),
      engine_(engine),
      clock_(clock),
      health_(health),
      metrics_(metrics),
      dial_(std::move(dial)),
      engine_lost_(std::move(engine_lost)),
      looked_(clock->Now()) {
  thread_ = std::thread([this] { Run(); });
}

Liveness::~Liveness() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  wake_.NotifyAll();
  thread_.join();
}

void Liveness::Check() {
  const EngineSnapshot snapshot = engine_->Snapshot();
  absl::Status lost = snapshot.device;
  const absl::Duration age = clock_->Now() - snapshot.heartbeat;
  // Who looks late itself was stopped (SIGSTOP, a frozen machine), and the engine with it: the next
  // look tells.
  const bool was_stopped = clock_->Now() - looked_ > 2 * options_.period;
  const bool stale = age > options_.heartbeat_limit && !was_stopped;
  stale_looks_ = stale ? stale_looks_ + 1 : 0;
  if (stale) {
    metrics_->WatchdogTripped();
    // Two looks, so that a step that ends late is not taken for one that never does.
    if (stale_looks_ >= 2 && lost.ok()) {
      lost = absl::UnavailableError(
          absl::StrCat("the engine's heartbeat is ", absl::FormatDuration(age), " old"));
    }
  }
  const absl::Status dialed = dial_();
  if (!dialed.ok()) {
    metrics_->SelfDialFailed();
    Log(LogLevel::kWarning, absl::StrCat("the serving port does not answer: ", dialed.message()));
  }
  health_->Set("liveness", lost.ok() && !stale && dialed.ok());
  if (!lost.ok() && !told_) {
    told_ = true;
    if (!snapshot.device.ok()) metrics_->DeviceFailed(snapshot.device);
    engine_lost_(lost);
  }
  looked_ = clock_->Now();  // now: the dial may have taken its time
}

void Liveness::Run() {
  while (true) {
    {
      MutexLock lock(&mutex_);
      if (!stopping_) wake_.WaitFor(&mutex_, absl::ToChronoNanoseconds(options_.period));
      if (stopping_) return;
    }
    Check();
  }
}

}  // namespace vernier
