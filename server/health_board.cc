#include "server/health_board.h"

#include <utility>

namespace vernier {

void HealthBoard::Set(const std::string& name, bool serving) {
  std::vector<std::shared_ptr<HealthWatcher>> watchers;
  {
    MutexLock lock(&mutex_);
    const auto [entry, added] = serving_.try_emplace(name, serving);
    if (!added && entry->second == serving) return;
    entry->second = serving;
    watchers = Watchers();
  }
  for (const auto& watcher : watchers) watcher->OnHealthChanged();
}

void HealthBoard::Close() {
  std::vector<std::shared_ptr<HealthWatcher>> watchers;
  {
    MutexLock lock(&mutex_);
    closed_ = true;
    watchers = Watchers();
  }
  for (const auto& watcher : watchers) watcher->OnHealthChanged();
}

bool HealthBoard::closed() const {
  MutexLock lock(&mutex_);
  return closed_;
}

std::vector<std::shared_ptr<HealthWatcher>> HealthBoard::Watchers() const {
  std::vector<std::shared_ptr<HealthWatcher>> watchers;
  for (const auto& [key, watcher] : watchers_) watchers.push_back(watcher);
  return watchers;
}

std::optional<bool> HealthBoard::Serving(const std::string& name) const {
  MutexLock lock(&mutex_);
  const auto entry = serving_.find(name);
  if (entry == serving_.end()) return std::nullopt;
  return entry->second;
}

void HealthBoard::Watch(std::shared_ptr<HealthWatcher> watcher) {
  MutexLock lock(&mutex_);
  const HealthWatcher* key = watcher.get();
  watchers_.emplace(key, std::move(watcher));
}

void HealthBoard::Unwatch(const HealthWatcher* watcher) {
  MutexLock lock(&mutex_);
  watchers_.erase(watcher);
}

}  // namespace vernier
