// Which health names are SERVING, and who wants to know when that changes.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "kernels/base/mutex.h"

namespace vernier {

// Told of changes; must not block. Called without any lock held, possibly by several threads.
class HealthWatcher {
 public:
  virtual ~HealthWatcher() = default;
  virtual void OnHealthChanged() = 0;
};

// Thread-safe. Names exist from the first Set on.
class HealthBoard {
 public:
  void Set(const std::string& name, bool serving);
  // Nothing: the name is unknown.
  std::optional<bool> Serving(const std::string& name) const;
  void Watch(std::shared_ptr<HealthWatcher> watcher);
  void Unwatch(const HealthWatcher* watcher);

 private:
  mutable Mutex mutex_;
  std::map<std::string, bool> serving_ ABSL_GUARDED_BY(mutex_);
  std::map<const HealthWatcher*, std::shared_ptr<HealthWatcher>> watchers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace vernier
