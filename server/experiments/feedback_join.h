// Feedback and the exposures that it speaks of, whichever comes first.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace vernier {

using ExposureId = std::array<uint8_t, 16>;

// What somebody thought of an answer.
struct FeedbackValue {
  ExposureId exposure_id{};  // the record's request_id
  int metric = 0;            // index of those that the experiment declares
  // kBool: 0 or 1. kPreference: 1, it was liked more than `over`, or 0, a tie.
  double value = 0;
  uint64_t unix_micros = 0;  // the last of an exposure, metric and source counts
  uint64_t source_hash = 0;  // who says so: any hash of the name
  ExposureId over{};         // of a preference: the request liked less; zeros: none
};

// The request that an exposure was.
struct Exposed {
  uint64_t unit = 0;  // its hash; 0: none
  uint32_t prompt_tokens = 0;
  uint8_t arm = 0;
};

// Bounded: the oldest exposures are forgotten, and values beyond the limit are left out. Within the
// limits what is joined does not depend on the order. Not thread-safe.
class FeedbackJoin {
 public:
  FeedbackJoin(size_t max_exposures, size_t max_values);

  // A value that counts for `exposed`, and the one that it takes the place of.
  struct Change {
    Exposed exposed;
    FeedbackValue value;
    std::optional<FeedbackValue> before;
  };
  std::vector<Change> AddExposure(const ExposureId& id, const Exposed& exposed);
  std::optional<Change> AddValue(const FeedbackValue& value);
  bool Knows(const ExposureId& id) const { return exposures_.contains(id); }

  struct Entry {
    FeedbackValue value;
    std::optional<Exposed> exposed, over;  // where they are known
  };
  template <class Visit>
  void ForEach(const Visit& visit) const {
    for (const auto& [key, entry] : entries_) visit(entry);
  }
  int64_t forgotten() const { return forgotten_; }
  int64_t left_out() const { return left_out_; }

 private:
  struct Key {
    ExposureId exposure{};
    int metric = 0;
    uint64_t source = 0;
    bool operator==(const Key&) const = default;
    template <typename H>
    friend H AbslHashValue(H state, const Key& key) {
      return H::combine(std::move(state), key.exposure, key.metric, key.source);
    }
  };

  void Await(const ExposureId& id, const Key& key) { waiting_[id].push_back(key); }
  void StopAwaiting(const ExposureId& id, const Key& key);
  std::optional<Exposed> Find(const ExposureId& id) const;

  const size_t max_exposures_, max_values_;
  absl::flat_hash_map<ExposureId, Exposed> exposures_;
  std::deque<ExposureId> order_;  // oldest first
  absl::flat_hash_map<Key, Entry> entries_;
  absl::flat_hash_map<ExposureId, std::vector<Key>> waiting_;  // by the exposure that is not known
  int64_t forgotten_ = 0, left_out_ = 0;
};

}  // namespace vernier
