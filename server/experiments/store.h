// Experiments, their history, and what Feedback said, in one SQLite file: what a restart begins
// with, and what people may query.
//
// Tables: `experiment` (number, id, version, body as protobuf), `history` (each version, when, and
// its state), `feedback`, `feedback_key`. Used by one thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/experiments/feedback_join.h"
#include "vernier/v1/experiments.pb.h"

struct sqlite3;

namespace vernier {

struct StoredFeedback {
  uint32_t experiment = 0;
  ExposureId exposure{};
  std::string metric;
  std::string source;
  std::string key;    // of idempotency; may be empty
  double value = 0;   // a flag as 0 or 1; of a preference: 1, or 0 for a tie
  std::string text;   // of TEXT
  ExposureId over{};  // of PREFERENCE
  int64_t unix_micros = 0;
};

enum class FeedbackTaken { kNew, kReplaced, kDuplicate };

class ExperimentStore {
 public:
  // Makes the file where it is not. Errors name the path and what SQLite says.
  static absl::StatusOr<std::unique_ptr<ExperimentStore>> Open(const std::string& path);
  ~ExperimentStore();
  ExperimentStore(const ExperimentStore&) = delete;
  ExperimentStore& operator=(const ExperimentStore&) = delete;

  struct Stored {
    uint32_t number = 0;
    v1::Experiment message;
  };
  // By their ids.
  absl::StatusOr<std::vector<Stored>> Experiments();
  // Inserts it, or replaces the one of its id; its number, from 1.
  absl::StatusOr<uint32_t> Save(const v1::Experiment& message, int64_t unix_micros);

  // The last of one exposure, metric and source counts; of one key, the first.
  absl::StatusOr<FeedbackTaken> SaveFeedback(const StoredFeedback& feedback);
  // In the order of exposure, metric and source.
  absl::Status EachFeedback(uint32_t experiment,
                            const std::function<void(const StoredFeedback&)>& feedback);

 private:
  class Statement;
  ExperimentStore(std::string path, sqlite3* db) : path_(std::move(path)), db_(db) {}
  absl::Status Run(const char* sql);
  absl::Status Error(const char* doing) const;

  const std::string path_;
  sqlite3* const db_;
};

}  // namespace vernier
