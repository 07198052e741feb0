// What the services share: what is served once it is loaded, and the calls that are alive.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "engine/clock.h"
#include "kernels/base/mutex.h"
#include "server/access.h"
#include "server/call.h"
#include "server/counts_by_key.h"
#include "server/health_board.h"
#include "server/metrics.h"
#include "server/reset_guard.h"
#include "vernier/v1/models.pb.h"

namespace vernier {

class ModelControl;

struct ServerLimits {
  int64_t max_message_bytes = 1 << 20;
  int64_t max_metadata_bytes = 8192;
  absl::Duration default_deadline = absl::Seconds(600);
  absl::Duration max_deadline = absl::Hours(1);
  int max_peer_calls = 0;  // of one client address, at once; 0: no limit
  int max_unended = 0;     // calls of one connection, see reset_guard.h; 0: no limit
};

// How many calls of a kind are alive. Thread-safe.
class LiveCalls {
 public:
  explicit LiveCalls(const Clock* clock) : clock_(clock) {}
  void Begin();
  void End();
  // False when calls are still alive after `timeout`.
  bool WaitForNone(absl::Duration timeout);

 private:
  const Clock* const clock_;
  Mutex mutex_;
  CondVar none_;
  int64_t alive_ ABSL_GUARDED_BY(mutex_) = 0;
};

// How many calls each client address has. Thread-safe.
class PeerCalls {
 public:
  explicit PeerCalls(int limit) : limit_(limit) {}
  // False, and nothing changes, when `address` has as many as it may.
  bool TryBegin(const std::string& address);
  void End(const std::string& address);

 private:
  const int limit_;  // 0: none
  Mutex mutex_;
  CountsByKey alive_ ABSL_GUARDED_BY(mutex_);
};

// What the admin services report and do.
struct ControlHooks {
  std::string backend;
  bool tls = false;
  bool client_certificates = false;
  std::function<bool()> draining;
  ModelControl* models = nullptr;  // null: variants cannot be loaded here
  std::function<void()> drain;     // begins, or ends, a drain; must not block
};

// Thread-safe. Everything pointed to outlives the gRPC server.
class ServerState {
 public:
  ServerState(ServerLimits limits, AccessPolicy access, Metrics* metrics, HealthBoard* health,
              const Clock* clock)
      : limits_(limits),
        access_(std::move(access)),
        metrics_(metrics),
        health_(health),
        clock_(clock),
        peers_(limits.max_peer_calls),
        resets_(limits.max_unended) {}

  const ServerLimits& limits() const { return limits_; }
  const AccessPolicy& access() const { return access_; }
  Metrics* metrics() const { return metrics_; }
  HealthBoard* health() const { return health_; }
  const Clock* clock() const { return clock_; }

  // Null until the model is loaded.
  const Served* served() const { return served_.load(std::memory_order_acquire); }
  void SetServed(const Served* served, std::function<v1::Model()> describe) {
    describe_ = std::move(describe);
    served_.store(served, std::memory_order_release);
  }
  // REQUIRES: served() is not null.
  v1::Model Describe() const { return describe_(); }

  // REQUIRES: served() is not null.
  const ControlHooks& control() const { return control_; }
  // Before SetServed.
  void SetControl(ControlHooks hooks) { control_ = std::move(hooks); }

  PeerCalls* peers() { return &peers_; }
  ResetGuard* resets() { return &resets_; }
  // What a drain waits for.
  LiveCalls* calls() { return &calls_; }
  // Health watches: they last until the server ends them.
  LiveCalls* watches() { return &watches_; }

 private:
  const ServerLimits limits_;
  const AccessPolicy access_;
  Metrics* const metrics_;
  HealthBoard* const health_;
  const Clock* const clock_;
  std::function<v1::Model()> describe_;  // written before served_, like control_
  ControlHooks control_;
  std::atomic<const Served*> served_{nullptr};
  PeerCalls peers_;
  ResetGuard resets_;
  LiveCalls calls_{clock_};
  LiveCalls watches_{clock_};
};

}  // namespace vernier
