#include "server/experiments/feedback_join.h"

#include <tuple>

namespace vernier {
namespace {

// Which of two values of one key counts; equal times are told apart so that no order matters.
bool IsLater(const FeedbackValue& a, const FeedbackValue& b) {
  return std::tie(a.unix_micros, a.value, a.over) > std::tie(b.unix_micros, b.value, b.over);
}

}  // namespace

FeedbackJoin::FeedbackJoin(size_t max_exposures, size_t max_values)
    : max_exposures_(max_exposures), max_values_(max_values) {}

std::optional<Exposed> FeedbackJoin::Find(const ExposureId& id) const {
  const auto found = exposures_.find(id);
  if (found == exposures_.end()) return std::nullopt;
  return found->second;
}

void FeedbackJoin::StopAwaiting(const ExposureId& id, const Key& key) {
  const auto found = waiting_.find(id);
  if (found == waiting_.end()) return;
  std::erase(found->second, key);
  if (found->second.empty()) waiting_.erase(found);
}

std::vector<FeedbackJoin::Change> FeedbackJoin::AddExposure(const ExposureId& id,
                                                            const Exposed& exposed) {
  if (max_exposures_ == 0 || !exposures_.try_emplace(id, exposed).second) return {};
  order_.push_back(id);
  if (order_.size() > max_exposures_) {
    exposures_.erase(order_.front());
    order_.pop_front();
    ++forgotten_;
  }
  std::vector<Change> changes;
  const auto waiting = waiting_.find(id);
  if (waiting == waiting_.end()) return changes;
  for (const Key& key : waiting->second) {
    Entry& entry = entries_[key];
    if (entry.value.exposure_id == id && !entry.exposed) {
      entry.exposed = exposed;
      changes.push_back({exposed, entry.value, std::nullopt});
    }
    if (entry.value.over == id) entry.over = exposed;
  }
  waiting_.erase(waiting);
  return changes;
}

std::optional<FeedbackJoin::Change> FeedbackJoin::AddValue(const FeedbackValue& value) {
  const Key key{value.exposure_id, value.metric, value.source_hash};
  const auto found = entries_.find(key);
  const bool is_new = found == entries_.end();
  if (is_new && entries_.size() >= max_values_) {
    ++left_out_;
    return std::nullopt;
  }
  if (!is_new && !IsLater(value, found->second.value)) return std::nullopt;
  Entry& entry = is_new ? entries_[key] : found->second;
  const FeedbackValue before = std::exchange(entry.value, value);
  if (is_new) {
    entry.exposed = Find(value.exposure_id);
    if (!entry.exposed) Await(value.exposure_id, key);
  }
  if (value.over != before.over) {
    if (!is_new && !entry.over) StopAwaiting(before.over, key);
    entry.over = Find(value.over);
    if (!entry.over) Await(value.over, key);
  }
  if (!entry.exposed) return std::nullopt;
  return Change{*entry.exposed, value,
                is_new ? std::nullopt : std::optional<FeedbackValue>(before)};
}

}  // namespace vernier
