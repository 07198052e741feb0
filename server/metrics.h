// Every metric of the daemon: names, labels, buckets, and what updates them.
//
// Thread-safe: updates are lock-free, so the device thread never waits for a scrape. All series
// exist at 0 from construction. Metrics of calls and requests are updated by gRPC's and the writer
// threads.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "server/acceptor.h"
#include "server/gpu_events.h"
#include "server/instruments.h"

namespace vernier {

enum class Method {
  kGenerate,
  kGenerateStream,
  kScore,
  kCompare,
  kCompareStream,
  kTokenize,
  kDetokenize,
  kFeedback,
  kListModels,
  kGetModel,
  kGetServerInfo,
  kGetLoad,
  kDrain,
  kLoadVariant,
  kUnloadVariant,
  kPlanMemory,
  kPutExperiment,
  kGetExperiment,
  kListExperiments,
  kControlExperiment,
  kExplainAssignment,
  kShadow,  // the daemon's own: a request mirrored to another variant
  kHealthCheck,
  kHealthWatch
};
inline constexpr int kNumMethods = 24;
inline constexpr int kNumEngineMethods = 5;  // the first five make engine requests
const char* MethodName(Method method);
// As gRPC spells it: "INVALID_ARGUMENT".
const char* CodeName(absl::StatusCode code);

struct VariantLabels {
  std::string name;
  std::string precision;
};

// How one engine request ended, as its client was told.
struct EndedRequest {
  absl::StatusCode code = absl::StatusCode::kOk;
  FinishReason reason = FinishReason::kNone;
  FinishEvent event;
  int64_t delivered_tokens = 0;
  int64_t max_tokens = 0;
};

// What the gauges are set from before a scrape.
struct GaugeInputs {
  EngineSnapshot engine;  // no variants: not loaded yet
  bool ready = false;
  bool draining = false;
  absl::Duration now;  // engine clock
  int64_t kv_bytes = 0;
  int64_t workspace_bytes = 0;
  int64_t connections = 0;            // of the HTTP port
  ConnectionCounts grpc_connections;  // of the serving port
  int64_t tls_failures = 0;
  int64_t log_dropped = 0;
};

class Metrics : public EngineObserver {
 public:
  Metrics(const std::string& model_name, const std::vector<VariantLabels>& variants,
          int64_t context_bound);

  // Once, when the model is loaded: info series and load figures.
  void SetModel(const Model& model, int64_t kv_blocks);
  // What each variant costs, after one came or went.
  void RenewMemory(const Model& model);
  // RssAnon before the load, and at ready: what the tracked components are reconciled with.
  void SetResident(int64_t before_load_bytes, int64_t at_ready_bytes, int64_t kv_bytes,
                   int64_t workspace_bytes, const Model& model);

  void CallStarted(Method method);
  void CallFinished(Method method, absl::StatusCode code, absl::Duration duration);
  // One a request that reached the engine; Rejected for one that did not (variant -1: unknown).
  void RequestFinished(Method method, int variant, const EndedRequest& end);
  void Rejected(Method method, int variant, const absl::Status& status);
  void TokenDelivered(int variant);
  void TokenGap(int variant, absl::Duration gap);
  void Divergence(int variant, int baseline, int64_t position);
  void Agreement(int variant, int baseline, double top1_agreement, double logprob_abs_diff);
  void SelfDialFailed();
  void WatchdogTripped();
  void GpuReported(const GpuEvent& event);
  // What the backend says itself: RESOURCE_EXHAUSTED, or it is lost.
  void DeviceFailed(const absl::Status& status);

  void OnStep(const StepReport& report) override;
  void OnPreempted(int variant, int64_t recomputed_tokens) override;
  void OnFinished(const Request& request, const FinishEvent& event) override;
  void OnCorrupted(int variant, RowStatus status) override;
  void OnReleased(int variant, absl::Duration since_end_seen) override;

  void SetGauges(const GaugeInputs& inputs);
  void ObserveRender(absl::Duration duration);
  std::vector<prometheus::MetricFamily> Collect() const { return table_.Collect(); }

 private:
  // Codes and finish reasons that a request can end with.
  struct EndSeries {
    absl::StatusCode code;
    const char* reason;
    Counter* counter;
  };
  struct CallSeries {
    absl::StatusCode code;
    Histogram* duration;
  };
  struct PerVariant {
    VariantLabels labels;
    Gauge *waiting, *running, *queued_tokens, *kv_usage, *kv_used, *kv_free, *kv_cached;
    std::vector<EndSeries> ends[kNumEngineMethods];
    std::vector<std::pair<const char*, Counter*>> rejections;
    Counter *prompt_tokens, *generation_tokens, *preemptions, *recomputed, *nan, *inf;
    Counter *prefix_queries, *prefix_hits;
    Histogram *first_token, *inter_token, *per_output_token;
    Histogram* duration[kNumEngineMethods];
    Histogram *queue_time, *prefill_time, *decode_time;
    Histogram *prompt_size, *generation_size, *max_tokens_size;
    Histogram* step_duration[3];
    Histogram *step_tokens, *step_batch;
    std::vector<Histogram*> divergence, agreement, logprob_diff;  // by baseline
    std::vector<Gauge*> states;
    Gauge *load_seconds, *load_bytes, *weight_bytes;
  };

  Labels VariantSeries(const VariantLabels& variant, Labels extra) const;
  void DeclareProcess();
  void DeclareCalls();
  void DeclareEnds(PerVariant* v);
  void DeclareVariant(PerVariant* v, const std::vector<VariantLabels>& all, int64_t context_bound);
  void DeclareVariantHistograms(PerVariant* v, const std::vector<VariantLabels>& all,
                                int64_t context_bound);
  void SetProcessGauges();
  void CountEnd(std::vector<EndSeries>& ends, absl::StatusCode code, const char* reason);

  const std::string model_name_;
  MetricTable table_;
  std::vector<PerVariant> variants_;
  std::vector<EndSeries> unknown_ends_[kNumEngineMethods];  // variant="none"
  std::vector<std::pair<const char*, Counter*>> unknown_rejections_;
  Counter* calls_started_[kNumMethods];
  std::vector<CallSeries> calls_[kNumMethods];
  Gauge *pod_waiting_, *pod_running_, *pod_kv_usage_;
  Gauge *ready_, *draining_, *heartbeat_, *connections_, *grpc_connections_, *refused_total_,
      *refused_peer_, *refused_resets_, *tls_failures_, *log_dropped_;
  Counter *watchdog_trips_, *self_dial_failures_, *gpu_xids_, *gpu_ecc_, *gpu_oom_, *gpu_sticky_;
  Histogram *cancel_to_free_, *render_seconds_;
  Gauge *memory_shared_, *memory_kv_, *memory_workspace_, *memory_tokenizer_, *memory_residual_;
  Gauge *process_cpu_, *process_open_fds_, *process_max_fds_, *process_virtual_,
      *process_virtual_max_, *process_resident_, *process_start_, *process_threads_;
};

}  // namespace vernier
