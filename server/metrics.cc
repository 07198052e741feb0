// Declarations: one a metric, all of them here. What updates them is in metrics_update.cc.
#include "server/metrics.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace vernier {
namespace {

using Code = absl::StatusCode;

// OpenTelemetry's boundaries for the time to the first token, and four more.
const std::vector<double> kFirstToken = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,
                                         .75,  1,    2.5, 5,   7.5, 10,  20,  40, 80,  160};
// OpenTelemetry's boundaries a token, and seven finer ones: a small model needs 1 to 8 ms.
const std::vector<double> kPerToken = {.0005, .001, .002, .003, .004, .005, .0075, .01, .025, .05,
                                       .075,  .1,   .15,  .2,   .3,   .4,   .5,    .75, 1,    2.5};
const std::vector<double> kCallSeconds = {.005, .05, .5, 5, 60};
const std::vector<double> kSeldomCallSeconds = {1};
const std::vector<double> kRelease = {.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1};
const std::vector<double> kPositions = {0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000};
const std::vector<double> kAgreement = {0, .5, .8, .9, .95, .98, .99, .995, .999, 1};
const std::vector<double> kLogprobDiff = {1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, .01, .02,
                                          .05,  .1,   .2,   .5,   1,    2,    5,   10};

std::vector<double> OneTwoFive(double from, double to) {
  std::vector<double> out;
  constexpr double kSteps[] = {2, 2.5, 2};
  int step = 0;
  for (double bound = from; bound <= to * 1.0001; bound *= kSteps[step++ % 3]) {
    out.push_back(bound);
  }
  return out;
}

std::vector<double> Doubling(double from, double to) {
  std::vector<double> out;
  for (double bound = from; bound <= to * 1.0001; bound *= 2) out.push_back(bound);
  return out;
}

// What an engine request can end with; more pairs exist on paper than can occur.
struct End {
  Code code;
  const char* reason;
};
constexpr End kEngineEnds[] = {
    {Code::kOk, "stop"},
    {Code::kOk, "length"},
    {Code::kOk, "time_limit"},
    {Code::kCancelled, "cancelled"},
    {Code::kDeadlineExceeded, "deadline"},
    {Code::kResourceExhausted, "slow_consumer"},
    {Code::kUnavailable, "drain"},
    {Code::kInternal, "error"},
    {Code::kFailedPrecondition, "error"},  // its variant was unloaded before it began
    {Code::kResourceExhausted, "error"},   // preempted too often
};
constexpr End kRefusals[] = {
    {Code::kInvalidArgument, "rejected"},    {Code::kResourceExhausted, "rejected"},
    {Code::kUnavailable, "rejected"},        {Code::kDeadlineExceeded, "rejected"},
    {Code::kFailedPrecondition, "rejected"}, {Code::kCancelled, "cancelled"},
};
constexpr const char* kRejectReasons[] = {"queue_requests",      "queue_tokens", "queue_wait",
                                          "tenant_quota",        "peer_streams", "draining",
                                          "deadline_infeasible", "breaker"};

// Codes that calls can end with.
constexpr Code kEngineCodes[] = {Code::kOk,
                                 Code::kCancelled,
                                 Code::kInvalidArgument,
                                 Code::kDeadlineExceeded,
                                 Code::kNotFound,
                                 Code::kResourceExhausted,
                                 Code::kFailedPrecondition,
                                 Code::kInternal,
                                 Code::kUnavailable,
                                 Code::kUnauthenticated,
                                 Code::kPermissionDenied};
// Of calls that are few, and of shadows, which vernier_exp_shadow_total counts: whatever fails
// counts as the last.
constexpr Code kControlCodes[] = {Code::kOk, Code::kFailedPrecondition};
constexpr Code kPlainCodes[] = {Code::kOk,
                                Code::kInvalidArgument,
                                Code::kNotFound,
                                Code::kResourceExhausted,
                                Code::kCancelled,
                                Code::kFailedPrecondition,
                                Code::kUnavailable,
                                Code::kUnauthenticated,
                                Code::kPermissionDenied};
constexpr Code kHealthCodes[] = {Code::kOk,        Code::kInvalidArgument,
                                 Code::kNotFound,  Code::kResourceExhausted,
                                 Code::kCancelled, Code::kUnavailable};
// Refusals before the variant is known, over those that a variant has too.
constexpr Code kDoorCodes[] = {Code::kNotFound, Code::kUnauthenticated, Code::kPermissionDenied};

// Calls of administrators and collectors: few, so that one bound and two codes are enough.
bool IsSeldom(Method method) {
  return method == Method::kFeedback ||
         (method >= Method::kGetServerInfo && method <= Method::kShadow);
}

bool ServesHealth(Method method) {
  return method == Method::kHealthCheck || method == Method::kHealthWatch;
}

}  // namespace

const char* MethodName(Method method) {
  static constexpr const char* kNames[kNumMethods] = {
      "Generate",        "GenerateStream",    "Score",
      "Compare",         "CompareStream",     "Tokenize",
      "Detokenize",      "Feedback",          "ListModels",
      "GetModel",        "GetServerInfo",     "GetLoad",
      "Drain",           "LoadVariant",       "UnloadVariant",
      "PlanMemory",      "PutExperiment",     "GetExperiment",
      "ListExperiments", "ControlExperiment", "ExplainAssignment",
      "Shadow",          "HealthCheck",       "HealthWatch"};
  return kNames[static_cast<int>(method)];
}

const char* CodeName(absl::StatusCode code) {
  static constexpr const char* kNames[] = {"OK",
                                           "CANCELLED",
                                           "UNKNOWN",
                                           "INVALID_ARGUMENT",
                                           "DEADLINE_EXCEEDED",
                                           "NOT_FOUND",
                                           "ALREADY_EXISTS",
                                           "PERMISSION_DENIED",
                                           "RESOURCE_EXHAUSTED",
                                           "FAILED_PRECONDITION",
                                           "ABORTED",
                                           "OUT_OF_RANGE",
                                           "UNIMPLEMENTED",
                                           "INTERNAL",
                                           "UNAVAILABLE",
                                           "DATA_LOSS",
                                           "UNAUTHENTICATED"};
  const int index = static_cast<int>(code);
  return index >= 0 && index < 17 ? kNames[index] : "UNKNOWN";
}

Metrics::Metrics(const std::string& model_name, const std::vector<VariantLabels>& variants,
                 int64_t context_bound)
    : model_name_(model_name) {
  DeclareProcess();
  DeclareCalls();
  variants_.resize(variants.size());
  for (size_t i = 0; i < variants.size(); ++i) {
    variants_[i].labels = variants[i];
    DeclareVariant(&variants_[i], variants, context_bound);
  }
}

Labels Metrics::VariantSeries(const VariantLabels& variant, Labels extra) const {
  Labels labels = {
      {"model_name", model_name_}, {"variant", variant.name}, {"precision", variant.precision}};
  labels.insert(labels.end(), extra.begin(), extra.end());
  return labels;
}

void Metrics::DeclareProcess() {
  MetricTable& t = table_;
  t.AddGauge("vernier_build_info", "1, with what the daemon was built from.",
             {{"version", "0.1.0"}, {"grpc_version", grpc::Version()}, {"compiler", __VERSION__}})
      ->Set(1);
  pod_waiting_ = t.AddGauge("vernier_pod_requests_waiting", "Requests waiting, all variants.", {});
  pod_running_ = t.AddGauge("vernier_pod_requests_running", "Requests running, all variants.", {});
  pod_kv_usage_ = t.AddGauge("vernier_pod_kv_cache_usage_ratio",
                             "Share of the KV blocks in use, of the one pool of all variants.", {});
  ready_ = t.AddGauge("vernier_ready", "1 while readiness is SERVING.", {});
  draining_ = t.AddGauge("vernier_draining", "1 from SIGTERM on.", {});
  heartbeat_ = t.AddGauge("vernier_engine_heartbeat_timestamp_seconds",
                          "Unix time of the engine loop's last sign of life.", {});
  connections_ = t.AddGauge("vernier_http_connections", "Open connections of this port.", {});
  grpc_connections_ =
      t.AddGauge("vernier_grpc_connections", "Established connections of the serving port.", {});
  const auto refused = [&t](const char* limit) {
    return t.AddFloatCounter("vernier_grpc_connections_refused_total",
                             "Connections of the serving port that were closed at once (total, "
                             "peer), or for the streams that they reset (resets).",
                             {{"limit", limit}});
  };
  refused_total_ = refused("total");
  refused_peer_ = refused("peer");
  refused_resets_ = refused("resets");
  tls_failures_ =
      t.AddFloatCounter("vernier_tls_failures_total", "TLS handshakes that failed.", {});
  log_dropped_ = t.AddFloatCounter("vernier_log_dropped_total",
                                   "Lines of the log that could not be written at once.", {});
  const auto gpu_errors = [&t](const char* kind) {
    return t.AddCounter("vernier_gpu_errors_total",
                        "What the driver reported of the GPU (xid, ecc), memory that the device "
                        "lacked (oom), its loss (sticky).",
                        {{"kind", kind}});
  };
  gpu_xids_ = gpu_errors("xid");
  gpu_ecc_ = gpu_errors("ecc");
  gpu_oom_ = gpu_errors("oom");
  gpu_sticky_ = gpu_errors("sticky");
  watchdog_trips_ = t.AddCounter("vernier_watchdog_trips_total",
                                 "Times that the engine's heartbeat was found too old.", {});
  self_dial_failures_ =
      t.AddCounter("vernier_self_dial_failures_total", "Failed dials of the own serving port.", {});
  cancel_to_free_ =
      t.AddHistogram("vernier_cancel_to_free_seconds",
                     "From an end seen by the engine to the KV blocks being free.", kRelease, {});
  render_seconds_ =
      t.AddHistogram("vernier_metrics_render_seconds", "Time to render this page.", kRelease, {});
  const auto memory = [&](const char* component) {
    return t.AddGauge("vernier_memory_bytes",
                      "Memory by component; with the residual they sum to the growth of RssAnon.",
                      {{"component", component}, {"variant", "shared"}});
  };
  memory_shared_ = memory("weights");
  memory_kv_ = memory("kv");
  memory_workspace_ = memory("workspace");
  memory_tokenizer_ = memory("tokenizer");
  memory_residual_ = memory("residual");
  process_cpu_ = t.AddFloatCounter("process_cpu_seconds_total", "User and system CPU time.", {});
  process_open_fds_ = t.AddGauge("process_open_fds", "Open file descriptors.", {});
  process_max_fds_ = t.AddGauge("process_max_fds", "Limit of open file descriptors.", {});
  process_virtual_ = t.AddGauge("process_virtual_memory_bytes", "Virtual memory.", {});
  process_virtual_max_ =
      t.AddGauge("process_virtual_memory_max_bytes", "Limit of virtual memory.", {});
  process_resident_ = t.AddGauge("process_resident_memory_bytes", "Resident memory.", {});
  process_start_ = t.AddGauge("process_start_time_seconds", "Unix time of the start.", {});
  process_threads_ = t.AddGauge("process_threads", "Threads.", {});
}

void Metrics::DeclareCalls() {
  for (int m = 0; m < kNumMethods; ++m) {
    const std::string name = MethodName(static_cast<Method>(m));
    calls_started_[m] = table_.AddCounter("vernier_grpc_calls_started_total", "Calls received.",
                                          {{"method", name}});
    const auto add = [&](Code code) {
      calls_[m].push_back(
          {code, table_.AddHistogram(
                     "vernier_grpc_call_duration_seconds", "From a call's arrival to its status.",
                     IsSeldom(static_cast<Method>(m)) ? kSeldomCallSeconds : kCallSeconds,
                     {{"method", name}, {"code", CodeName(code)}})});
    };
    if (m < kNumEngineMethods) {
      for (const Code code : kEngineCodes) add(code);
      for (const End& end : kRefusals) {
        unknown_ends_[m].push_back(
            {end.code, end.reason,
             table_.AddCounter(
                 "vernier_requests_total", "Requests that ended, each once.",
                 VariantSeries({"none", "none"}, {{"method", name},
                                                  {"code", CodeName(end.code)},
                                                  {"finished_reason", end.reason}}))});
      }
      for (const Code code : kDoorCodes) {
        unknown_ends_[m].push_back(
            {code, "rejected",
             table_.AddCounter(
                 "vernier_requests_total", "Requests that ended, each once.",
                 VariantSeries({"none", "none"}, {{"method", name},
                                                  {"code", CodeName(code)},
                                                  {"finished_reason", "rejected"}}))});
      }
    } else if (ServesHealth(static_cast<Method>(m))) {
      for (const Code code : kHealthCodes) add(code);
    } else if (IsSeldom(static_cast<Method>(m))) {
      for (const Code code : kControlCodes) add(code);
    } else {
      for (const Code code : kPlainCodes) add(code);
    }
  }
  for (const char* reason : kRejectReasons) {
    unknown_rejections_.emplace_back(
        reason,
        table_.AddCounter("vernier_admission_rejections_total", "Requests that admission refused.",
                          VariantSeries({"none", "none"}, {{"reason", reason}})));
  }
}

void Metrics::DeclareEnds(PerVariant* v) {
  for (int m = 0; m < kNumEngineMethods; ++m) {
    const std::string name = MethodName(static_cast<Method>(m));
    const auto add = [&](const End& end) {
      v->ends[m].push_back(
          {end.code, end.reason,
           table_.AddCounter("vernier_requests_total", "Requests that ended, each once.",
                             VariantSeries(v->labels, {{"method", name},
                                                       {"code", CodeName(end.code)},
                                                       {"finished_reason", end.reason}}))});
    };
    for (const End& end : kEngineEnds) add(end);
    for (const End& end : kRefusals) {
      if (end.code != Code::kCancelled) add(end);
    }
  }
  for (const char* reason : kRejectReasons) {
    v->rejections.emplace_back(
        reason,
        table_.AddCounter("vernier_admission_rejections_total", "Requests that admission refused.",
                          VariantSeries(v->labels, {{"reason", reason}})));
  }
}

void Metrics::DeclareVariant(PerVariant* v, const std::vector<VariantLabels>& all,
                             int64_t context_bound) {
  const auto gauge = [&](const char* name, const char* help, Labels extra = {}) {
    return table_.AddGauge(name, help, VariantSeries(v->labels, std::move(extra)));
  };
  const auto counter = [&](const char* name, const char* help, Labels extra = {}) {
    return table_.AddCounter(name, help, VariantSeries(v->labels, std::move(extra)));
  };
  v->waiting = gauge("vernier_requests_waiting", "Requests that no row was planned for yet.");
  v->running = gauge("vernier_requests_running", "Requests that hold KV blocks.");
  v->queued_tokens = gauge("vernier_queued_prompt_tokens", "Prompt tokens of waiting requests.");
  v->kv_usage = gauge("vernier_kv_cache_usage_ratio", "Share of the pool that this variant uses.");
  v->kv_used = gauge("vernier_kv_cache_blocks", "KV blocks.", {{"state", "used"}});
  v->kv_free = gauge("vernier_kv_cache_blocks", "KV blocks.", {{"state", "free"}});
  v->kv_cached = gauge("vernier_kv_cache_blocks", "KV blocks.", {{"state", "cached"}});
  v->prompt_tokens = counter("vernier_prompt_tokens_total", "Prompt tokens of ended requests.");
  v->generation_tokens = counter("vernier_generation_tokens_total", "Tokens delivered.");
  v->preemptions = counter("vernier_preemptions_total", "Requests that lost their KV blocks.");
  v->recomputed = counter(
      "vernier_recomputed_tokens_total",
      "Tokens to compute again after a preemption, but for those still in the prefix cache.");
  v->prefix_queries = counter("vernier_prefix_cache_queries_total",
                              "Prompt tokens of ended requests that were looked for.");
  v->prefix_hits = counter("vernier_prefix_cache_hits_total",
                           "Prompt tokens of ended requests that the prefix cache had.");
  v->nan = counter("vernier_corrupted_requests_total", "Requests ended by their logits.",
                   {{"kind", "nan"}});
  v->inf = counter("vernier_corrupted_requests_total", "Requests ended by their logits.",
                   {{"kind", "inf"}});
  v->load_seconds = gauge("vernier_variant_load_seconds", "Time to read and pack its weights.");
  v->load_bytes = gauge("vernier_variant_load_bytes", "Packed weights, shared ones included.");
  v->weight_bytes =
      table_.AddGauge("vernier_memory_bytes",
                      "Memory by component; with the residual they sum to the growth of RssAnon.",
                      {{"component", "weights"}, {"variant", v->labels.name}});
  for (const char* state : {"loading", "ready", "draining", "tripped", "failed", "unloaded"}) {
    v->states.push_back(
        gauge("vernier_variant_state", "1 for the state it is in.", {{"state", state}}));
  }
  v->states[0]->Set(1);
  DeclareEnds(v);
  DeclareVariantHistograms(v, all, context_bound);
}

void Metrics::DeclareVariantHistograms(PerVariant* v, const std::vector<VariantLabels>& all,
                                       int64_t context_bound) {
  const auto histogram = [&](const char* name, const char* help, const std::vector<double>& bounds,
                             Labels extra = {}) {
    return table_.AddHistogram(name, help, bounds, VariantSeries(v->labels, std::move(extra)));
  };
  v->first_token = histogram("vernier_time_to_first_token_seconds",
                             "From submission to the first token.", kFirstToken);
  v->inter_token = histogram("vernier_inter_token_latency_seconds",
                             "Between two tokens of a stream.", kPerToken);
  v->per_output_token = histogram("vernier_time_per_output_token_seconds",
                                  "Mean between tokens of a request.", kPerToken);
  for (int m = 0; m < kNumEngineMethods; ++m) {
    v->duration[m] =
        histogram("vernier_request_duration_seconds", "From submission to the end.",
                  Doubling(.01, 655.36), {{"method", MethodName(static_cast<Method>(m))}});
  }
  const std::vector<double> seconds = OneTwoFive(.001, 100);
  v->queue_time =
      histogram("vernier_request_queue_time_seconds", "From submission to the first row.", seconds);
  v->prefill_time = histogram("vernier_request_prefill_time_seconds",
                              "From the first row to the first token.", seconds);
  v->decode_time = histogram("vernier_request_decode_time_seconds",
                             "From the first token to the last.", seconds);
  const std::vector<double> sizes = OneTwoFive(1, static_cast<double>(context_bound));
  v->prompt_size = histogram("vernier_request_prompt_tokens", "Prompt tokens a request.", sizes);
  v->generation_size =
      histogram("vernier_request_generation_tokens", "Delivered tokens a request.", sizes);
  v->max_tokens_size = histogram("vernier_request_max_tokens", "max_tokens a request.", sizes);
  constexpr const char* kPhases[] = {"prefill", "decode", "mixed"};
  for (int phase = 0; phase < 3; ++phase) {
    v->step_duration[phase] = histogram("vernier_step_duration_seconds", "Time of a step.",
                                        OneTwoFive(.0002, 1), {{"phase", kPhases[phase]}});
  }
  std::vector<double> step_sizes = Doubling(8, 16384);
  step_sizes.insert(step_sizes.begin(), 1);
  v->step_tokens = histogram("vernier_step_tokens", "Rows of a step.", step_sizes);
  v->step_batch = histogram("vernier_step_batch_size", "Sequences of a step.", Doubling(1, 256));
  for (const VariantLabels& baseline : all) {
    const Labels extra = {{"baseline", baseline.name}};
    v->divergence.push_back(histogram("vernier_compare_divergence_position_tokens",
                                      "First token that differs from the baseline's.", kPositions,
                                      extra));
    v->agreement.push_back(histogram("vernier_compare_token_agreement_ratio",
                                     "Share of positions with the baseline's best token.",
                                     kAgreement, extra));
    v->logprob_diff.push_back(histogram("vernier_compare_logprob_abs_diff",
                                        "Difference of the logarithms of the perplexities, nats.",
                                        kLogprobDiff, extra));
  }
}

}  // namespace vernier
