// The daemon as a whole: binds, loads, serves, drains, stops. What main does, and end-to-end tests
// too.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/clock.h"
#include "kernels/backend.h"
#include "server/config.h"
#include "server/metrics.h"

namespace vernier {

// Exit codes of operations.md 2.2.
inline constexpr int kExitOk = 0;
inline constexpr int kExitUsage = 64;
inline constexpr int kExitData = 65;
inline constexpr int kExitAddress = 69;
inline constexpr int kExitEngine = 70;
inline constexpr int kExitResource = 71;

// Used by one thread; the daemon's own threads are listed in README.md.
class Daemon {
 public:
  // Opens the listeners: from here on health answers NOT_SERVING and calls UNAVAILABLE. UNAVAILABLE
  // for an address that cannot be bound, INVALID_ARGUMENT for certificates that are none.
  // `drain_asked` is what an administrator's Drain calls, from any thread.
  static absl::StatusOr<std::unique_ptr<Daemon>> Bind(
      const ServerConfig& config, const Clock* clock, std::function<void()> drain_asked = [] {});
  virtual ~Daemon() = default;  // Stop()s

  // Before Load: packs the weights of variants that are loaded while others serve, with layouts as
  // the backend of Load. Without one the admin's LoadVariant is FAILED_PRECONDITION.
  virtual void SetPacker(std::unique_ptr<Backend> packer) = 0;
  // Loads and warms every variant that is to be there at the start, then serves. Errors as
  // LoadModel's and Engine::Create's, but OUT_OF_RANGE for engine options that the model does not
  // fit; CANCELLED when `stopping` returned true. `engine_lost` is called once, from another
  // thread, should the engine die.
  virtual absl::Status Load(std::unique_ptr<Backend> backend, const std::function<bool()>& stopping,
                            std::function<void(const absl::Status&)> engine_lost) = 0;
  // "ready grpc=... http=... model=... variants=..."
  virtual std::string ReadyLine() const = 0;
  virtual std::string grpc_address() const = 0;
  virtual std::string http_address() const = 0;
  virtual std::string health_address() const = 0;
  virtual std::string admin_address() const = 0;

  // Readiness off, new calls refused; returns when the last call has ended, `stopping` returned
  // true, or the budget of the configuration is spent.
  virtual void Drain(const std::function<bool()>& stopping) = 0;
  // Ends what still runs and joins every thread. Idempotent.
  virtual void Stop() = 0;

  // What the process is to end with when it has drained: kExitEngine once the driver has given up
  // the GPU, which asks for a drain as an administrator does. Any thread.
  virtual int exit_code() const = 0;

  // The metrics page as it is now, in Prometheus text. Any thread.
  virtual std::string RenderPage() = 0;
  // REQUIRES: loaded. Any thread.
  virtual EngineSnapshot snapshot() const = 0;
};

// The exit code that a failed Load means.
int ExitCodeOfLoad(const absl::Status& status);

}  // namespace vernier
