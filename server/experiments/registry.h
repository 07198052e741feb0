// Every experiment of this process: which arm a request gets, what became of it, and what that
// shows.
//
// The request path reads one immutable table and appends to the exposure log: no lock, no I/O. The
// log's thread adds what it wrote to the reports, asks the guardrails, and swaps the table when one
// is crossed. A restart reads experiments and feedback from the store, and the reports from the
// log.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/base/mutex.h"
#include "server/experiments/definition.h"
#include "server/experiments/exposure_log.h"
#include "server/experiments/guardrails.h"
#include "server/experiments/report.h"
#include "server/experiments/store.h"
#include "server/experiments/unit_hash.h"
#include "vernier/v1/inference.pb.h"

namespace vernier {

struct ExperimentsOptions {
  std::string folder;                 // of the store, the log and the key of unit hashes; made
  std::vector<std::string> variants;  // of the configuration, in its order
  std::function<bool(int)> loaded = [](int) { return true; };  // whether a variant can serve now
  uint64_t model_digest = 0, server_build = 0;
  std::vector<uint64_t> quant_digests;  // by variant
  ExposureLogOptions log;               // its folder is ignored
};

// What is known of a request when its variant is chosen.
struct RouteRequest {
  absl::string_view routing_key;  // empty: none
  absl::string_view tenant;
  int64_t prompt_tokens = 0;
  int variant = 0;     // that it named, else the default
  bool named = false;  // and then it keeps it
};

// What was decided for one request.
struct Exposure {
  std::shared_ptr<const Definition> experiment;  // null: none saw it
  int variant = 0;                               // that serves
  int arm = -1;                                  // -1: none, or the request named its variant
  bool logged = false;                           // End is to be called
  ExposureRecord record;                         // kBound, as logged

  std::string id() const;  // 32 hex digits; empty where nothing was logged
};

struct Outcome {
  absl::StatusCode code = absl::StatusCode::kOk;
  uint8_t finish = 0;  // FinishReason of the protocol
  bool not_finite = false;
  int64_t output_tokens = 0;
  absl::Duration queue, first_token, token_p50, token_p99, total;
  float mean_logprob = ExposureRecord::kAbsent;
  float loop_rate = ExposureRecord::kAbsent;
};

// For the metrics page: one experiment now.
struct ExperimentFigures {
  std::shared_ptr<const Definition> experiment;
  // By arm, variant that served, and reason.
  std::map<std::tuple<int, int, ServedReason>, int64_t> exposures;
  std::map<std::string, int64_t> rollbacks;  // by guardrail
  ExperimentReport report;
};
struct ExperimentsFigures {
  std::vector<ExperimentFigures> experiments;
  int64_t log_dropped = 0;
  int64_t feedback_accepted = 0, feedback_duplicates = 0, feedback_orphans = 0,
          feedback_refused = 0;
};

// Thread-safe.
class Experiments {
 public:
  static absl::StatusOr<std::unique_ptr<Experiments>> Open(const ExperimentsOptions& options);
  ~Experiments();

  // ---- Requests ----

  // Logs that the request was bound, where an experiment saw it.
  Exposure Bind(const RouteRequest& request);
  // Once for each Exposure that was logged.
  void End(const Exposure& exposure, const Outcome& outcome);
  // Whether this request is to be mirrored. REQUIRES: exposure.experiment.
  bool WantsShadow(const Exposure& exposure) const;
  // Logs that a copy of it goes to another arm: the record that the shadow's others begin with.
  ExposureRecord BindShadow(const Exposure& exposure, int arm);
  void Log(const ExposureRecord& record);

  // ---- Administration; errors as in experiments.proto ----

  absl::StatusOr<v1::Experiment> Put(const v1::Experiment& experiment);
  absl::StatusOr<v1::Experiment> Control(const v1::ControlExperimentRequest& request);
  absl::StatusOr<v1::ExperimentReport> Report(const std::string& id, bool rebuild);
  v1::ListExperimentsResponse List();
  v1::ExplainAssignmentResponse Explain(const v1::ExplainAssignmentRequest& request) const;
  // Puts what the configuration names: new ones as they are, and started where they say RUNNING;
  // of those that are there, what may still change.
  absl::Status Configure(const v1::Experiment& experiment);

  // ---- Feedback ----

  // Keeps the event, or says in `response` why it cannot.
  void TakeFeedback(const v1::FeedbackEvent& event, v1::FeedbackResponse* response);

  // At most a second old.
  std::shared_ptr<const ExperimentsFigures> Figures();
  // When everything logged before is on disk and in the reports.
  absl::Status Flush();

 private:
  using Table = std::vector<std::shared_ptr<const Definition>>;
  // One experiment that is or was started.
  struct Live {
    std::shared_ptr<const Definition> definition;
    std::unique_ptr<ReportBuilder> report;
    std::unique_ptr<Guardrails> guardrails;  // since it was started, or the ramp moved
    std::map<std::tuple<int, int, ServedReason>, int64_t> exposures;
    std::map<std::string, int64_t> rollbacks;
  };

  explicit Experiments(const ExperimentsOptions& options) : options_(options) {}
  static int64_t UnixMicros();
  absl::Status Start();
  absl::Status ReplayLog();
  void OnRecords(std::span<const ExposureRecord> records);
  // The experiment that the record is of; null: none that is here.
  Live* Add(const ExposureRecord& record) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Makes `message` what the experiment is from here on.
  void Define(Live* live, const v1::Experiment& message, uint32_t number)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RollBack(Live* live, const Crossing& crossing) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Live*> Find(const std::string& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<v1::Experiment> Store(v1::Experiment message)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckLayer(const v1::Experiment& message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckMayRamp(const Live& live, const v1::ControlExperimentRequest& request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Publish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<FeedbackTaken> KeepFeedback(const v1::FeedbackEvent& event,
                                             v1::FeedbackResponse* response)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Feed(ReportBuilder* report, const Definition& definition)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Assignment AssignmentOf(const Definition& definition, absl::string_view unit,
                          const UnitFacts& facts) const;
  v1::ExperimentReport MessageOf(const ReportBuilder& report, const Definition& definition) const;
  uint64_t QuantDigest(int variant) const;
  ExposureRecord BoundRecord(const Definition& definition, const RouteRequest& request,
                             const Assignment& assignment) const;

  const ExperimentsOptions options_;
  UnitHashKey hash_key_;
  std::atomic<std::shared_ptr<const Table>> table_{std::make_shared<const Table>()};

  Mutex mutex_;
  std::unique_ptr<ExperimentStore> store_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Live> experiments_ ABSL_GUARDED_BY(mutex_);  // by id
  std::map<uint32_t, Live*> by_number_ ABSL_GUARDED_BY(mutex_);
  int64_t feedback_[4] ABSL_GUARDED_BY(mutex_) = {};  // accepted, duplicates, orphans, refused
  std::shared_ptr<const ExperimentsFigures> figures_ ABSL_GUARDED_BY(mutex_);
  std::chrono::steady_clock::time_point figures_at_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<ExposureLog> log_;  // last: its thread calls OnRecords
};

// What every call about experiments ends with where there are none.
inline absl::Status NoExperiments() {
  return absl::FailedPreconditionError(
      "this server has no experiments: its configuration has no experiments.folder");
}

}  // namespace vernier
