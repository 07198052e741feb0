// Which health names are SERVING, and who wants to know when that changes.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

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
  // Nothing changes any more: watchers are to tell the last state and end.
  void Close();
  bool closed() const;

 private:
  std::vector<std::shared_ptr<HealthWatcher>> Watchers() const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  std::map<std::string, bool> serving_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<const HealthWatcher*, std::shared_ptr<HealthWatcher>> watchers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace vernier
