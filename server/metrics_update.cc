// What updates the metrics that metrics.cc declares.
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <ctime>

#include "absl/strings/string_view.h"
#include "engine/model/forward.h"
#include "engine/status_payload.h"
#include "kernels/quant_format.h"
#include "server/metrics.h"
#include "server/process_stats.h"

namespace vernier {
namespace {

double Seconds(absl::Duration duration) { return absl::ToDoubleSeconds(duration); }

// The value of `finished_reason`: what a reader of the table wants to know, not the enum.
const char* ReasonLabel(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
    case FinishReason::kEos:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kTimeLimit:
      return "time_limit";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kDeadline:
      return "deadline";
    case FinishReason::kSlowConsumer:
      return "slow_consumer";
    case FinishReason::kDrain:
      return "drain";
    case FinishReason::kNone:
    case FinishReason::kError:
      break;
  }
  return "error";
}

double UnixNow() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

}  // namespace

void Metrics::CountEnd(std::vector<EndSeries>& ends, absl::StatusCode code, const char* reason) {
  for (EndSeries& end : ends) {
    if (end.code == code && absl::string_view(end.reason) == reason) {
      end.counter->Add();
      return;
    }
  }
  // A pair that was thought impossible: count it where errors are looked for.
  for (EndSeries& end : ends) {
    if (end.code == absl::StatusCode::kInternal || end.code == absl::StatusCode::kUnavailable) {
      end.counter->Add();
      return;
    }
  }
}

void Metrics::CallStarted(Method method) { calls_started_[static_cast<int>(method)]->Add(); }

void Metrics::CallFinished(Method method, absl::StatusCode code, absl::Duration duration) {
  std::vector<CallSeries>& series = calls_[static_cast<int>(method)];
  const auto found = std::find_if(series.begin(), series.end(),
                                  [&](const CallSeries& s) { return s.code == code; });
  (found == series.end() ? series.back() : *found).duration->Observe(Seconds(duration));
}

void Metrics::RequestFinished(Method method, int variant, const EndedRequest& end) {
  PerVariant& v = variants_[variant];
  const int m = static_cast<int>(method);
  CountEnd(v.ends[m], end.code, ReasonLabel(end.reason));
  const Timings& timings = end.event.timings;
  v.duration[m]->Observe(Seconds(timings.total));
  v.queue_time->Observe(Seconds(timings.queue));
  v.prompt_size->Observe(static_cast<double>(end.event.prompt_tokens));
  v.prompt_tokens->Add(end.event.prompt_tokens);
  v.prefix_queries->Add(end.event.prompt_tokens);
  v.prefix_hits->Add(end.event.cached_tokens);
  if (end.max_tokens == 0) return;  // Score: nothing is generated
  v.max_tokens_size->Observe(static_cast<double>(end.max_tokens));
  v.generation_size->Observe(static_cast<double>(end.delivered_tokens));
  if (end.event.completion_tokens < 1) return;
  v.first_token->Observe(Seconds(timings.first_token));
  v.prefill_time->Observe(Seconds(timings.prefill));
  v.decode_time->Observe(Seconds(timings.decode));
  if (end.event.completion_tokens > 1) {
    v.per_output_token->Observe(Seconds(timings.decode) /
                                static_cast<double>(end.event.completion_tokens - 1));
  }
}

void Metrics::Rejected(Method method, int variant, const absl::Status& status) {
  const int m = static_cast<int>(method);
  if (m >= kNumEngineMethods) return;
  const bool known = variant >= 0 && status.code() != absl::StatusCode::kNotFound &&
                     status.code() != absl::StatusCode::kCancelled;
  CountEnd(known ? variants_[variant].ends[m] : unknown_ends_[m], status.code(),
           status.code() == absl::StatusCode::kCancelled ? "cancelled" : "rejected");
  const RejectReason reason = RejectReasonOf(status);
  if (reason == RejectReason::kNone) return;
  for (auto& [name, counter] : known ? variants_[variant].rejections : unknown_rejections_) {
    if (std::strcmp(name, RejectReasonName(reason)) == 0) counter->Add();
  }
}

void Metrics::TokenDelivered(int variant) { variants_[variant].generation_tokens->Add(); }

void Metrics::TokenGap(int variant, absl::Duration gap) {
  variants_[variant].inter_token->Observe(Seconds(gap));
}

void Metrics::Divergence(int variant, int baseline, int64_t position) {
  variants_[variant].divergence[baseline]->Observe(static_cast<double>(position));
}

void Metrics::Agreement(int variant, int baseline, double top1_agreement, double logprob_abs_diff) {
  variants_[variant].agreement[baseline]->Observe(top1_agreement);
  variants_[variant].logprob_diff[baseline]->Observe(logprob_abs_diff);
}

void Metrics::SelfDialFailed() { self_dial_failures_->Add(); }
void Metrics::WatchdogTripped() { watchdog_trips_->Add(); }
void Metrics::GpuReported(const GpuEvent& event) {
  (event.kind == GpuEvent::Kind::kXid ? gpu_xids_ : gpu_ecc_)->Add();
}

void Metrics::DeviceFailed(const absl::Status& status) {
  (absl::IsResourceExhausted(status) ? gpu_oom_ : gpu_sticky_)->Add();
}

void Metrics::OnStep(const StepReport& report) {
  PerVariant& v = variants_[report.variant];
  const int phase = report.prefill_rows == 0 ? 1 : report.decode_rows == 0 ? 0 : 2;
  v.step_duration[phase]->Observe(Seconds(report.duration));
  v.step_tokens->Observe(report.prefill_rows + report.decode_rows);
  v.step_batch->Observe(report.sequences);
}

void Metrics::OnPreempted(int variant, int64_t recomputed_tokens) {
  variants_[variant].preemptions->Add();
  variants_[variant].recomputed->Add(recomputed_tokens);
}

// What a client was told is counted by the call that told it.
void Metrics::OnFinished(const Request&, const FinishEvent&) {}

void Metrics::OnCorrupted(int variant, RowStatus status) {
  (status == RowStatus::kNan ? variants_[variant].nan : variants_[variant].inf)->Add();
}

void Metrics::OnReleased(int, absl::Duration since_end_seen) {
  cancel_to_free_->Observe(Seconds(since_end_seen));
}

void Metrics::ObserveRender(absl::Duration duration) {
  render_seconds_->Observe(Seconds(duration));
}

void Metrics::SetModel(const Model& model, int64_t kv_blocks) {
  table_
      .AddGauge("vernier_cache_config_info", "1, with the shape of the KV pool.",
                {{"block_size", std::to_string(kBlockTokens)},
                 {"num_gpu_blocks", std::to_string(kv_blocks)},
                 {"kv_dtype", KvTypeName(WidestKv(model))}})
      ->Set(1);
  for (size_t i = 0; i < model.variants.size(); ++i) {
    const Variant& variant = model.variants[i];
    const QuantFormat& format = FormatOf(variant.precision);
    table_
        .AddGauge("vernier_variant_info", "1, with what the variant is made of.",
                  VariantSeries(variants_[i].labels,
                                {{"weights_sha256_12", model.weights_sha256.substr(0, 12)},
                                 {"quant_method", format.method},
                                 {"group_size", std::to_string(format.group)},
                                 {"kv_dtype", KvTypeName(variant.kv)},
                                 {"activations", ActivationsName(variant.activations)},
                                 {"source", model.source}}))
        ->Set(1);
  }
  RenewMemory(model);
}

void Metrics::RenewMemory(const Model& model) {
  for (size_t i = 0; i < model.variants.size(); ++i) {
    const Variant& variant = model.variants[i];
    variants_[i].load_seconds->Set(variant.load_seconds);
    variants_[i].load_bytes->Set(static_cast<double>(variant.own_bytes + variant.shared_bytes));
    variants_[i].weight_bytes->Set(static_cast<double>(variant.own_bytes));
  }
  memory_shared_->Set(static_cast<double>(model.memory.shared_weight_bytes));
}

void Metrics::SetResident(int64_t before_load_bytes, int64_t at_ready_bytes, int64_t kv_bytes,
                          int64_t workspace_bytes, const Model& model) {
  memory_tokenizer_->Set(static_cast<double>(model.memory.tokenizer_bytes));
  memory_kv_->Set(static_cast<double>(kv_bytes));
  memory_workspace_->Set(static_cast<double>(workspace_bytes));
  const int64_t tracked =
      model.memory.weight_bytes + model.memory.tokenizer_bytes + kv_bytes + workspace_bytes;
  memory_residual_->Set(static_cast<double>(at_ready_bytes - before_load_bytes - tracked));
}

void Metrics::SetProcessGauges() {
  const ProcessStats stats = ReadProcessStats();
  process_cpu_->Set(stats.cpu_seconds);
  process_open_fds_->Set(static_cast<double>(stats.open_fds));
  process_virtual_->Set(static_cast<double>(stats.virtual_bytes));
  process_resident_->Set(static_cast<double>(stats.resident_bytes));
  process_threads_->Set(static_cast<double>(stats.threads));
  process_start_->Set(stats.start_unix_seconds);
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    process_max_fds_->Set(static_cast<double>(limit.rlim_cur));
  }
  if (getrlimit(RLIMIT_AS, &limit) == 0) {
    process_virtual_max_->Set(
        limit.rlim_cur == RLIM_INFINITY ? -1 : static_cast<double>(limit.rlim_cur));
  }
}

void Metrics::SetGauges(const GaugeInputs& inputs) {
  SetProcessGauges();
  ready_->Set(inputs.ready);
  draining_->Set(inputs.draining);
  connections_->Set(static_cast<double>(inputs.connections));
  grpc_connections_->Set(static_cast<double>(inputs.grpc_connections.open));
  refused_total_->Set(static_cast<double>(inputs.grpc_connections.refused_total));
  refused_peer_->Set(static_cast<double>(inputs.grpc_connections.refused_peer));
  refused_resets_->Set(static_cast<double>(inputs.grpc_connections.cut));
  tls_failures_->Set(static_cast<double>(inputs.tls_failures));
  log_dropped_->Set(static_cast<double>(inputs.log_dropped));
  const EngineSnapshot& engine = inputs.engine;
  if (engine.variants.size() != variants_.size()) return;
  heartbeat_->Set(UnixNow() - Seconds(inputs.now - engine.heartbeat));
  int64_t waiting = 0, running = 0;
  const auto total = static_cast<double>(std::max<int64_t>(engine.kv_blocks_total, 1));
  for (size_t i = 0; i < variants_.size(); ++i) {
    const VariantLoad& load = engine.variants[i];
    PerVariant& v = variants_[i];
    v.waiting->Set(static_cast<double>(load.waiting));
    v.running->Set(static_cast<double>(load.running));
    v.queued_tokens->Set(static_cast<double>(load.queued_prompt_tokens));
    v.kv_used->Set(static_cast<double>(load.kv_blocks));
    v.kv_free->Set(static_cast<double>(engine.kv_blocks_free - engine.kv_blocks_cached));
    v.kv_cached->Set(static_cast<double>(engine.kv_blocks_cached));
    v.kv_usage->Set(static_cast<double>(load.kv_blocks) / total);
    waiting += load.waiting;
    running += load.running;
    const size_t state = load.failed           ? 4
                         : !load.loaded        ? 5
                         : !engine.device.ok() ? 4
                         : inputs.draining     ? 2
                         : inputs.ready        ? 1
                                               : 0;
    for (size_t s = 0; s < v.states.size(); ++s) v.states[s]->Set(s == state);
  }
  pod_waiting_->Set(static_cast<double>(waiting));
  pod_running_->Set(static_cast<double>(running));
  pod_kv_usage_->Set(static_cast<double>(engine.kv_blocks_total - engine.kv_blocks_free) / total);
}

}  // namespace vernier
