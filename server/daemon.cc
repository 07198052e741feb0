#include "server/daemon.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/base/log.h"
#include "kernels/quant_format.h"
#include "server/config_flags.h"
#include "server/experiments/registry.h"
#include "server/gpu_events.h"
#include "server/grpc_server.h"
#include "server/host_memory.h"
#include "server/http.h"
#include "server/liveness.h"
#include "server/load_log.h"
#include "server/metrics_compat.h"
#include "server/metrics_experiments.h"
#include "server/model_control.h"
#include "server/process_stats.h"
#include "server/replies.h"
#include "server/self_test.h"
#include "server/server_state.h"
#include "server/shadow.h"

namespace vernier {
namespace {

constexpr absl::Duration kWriterTick = absl::Milliseconds(250);
constexpr absl::Duration kDialTimeout = absl::Seconds(3);
constexpr absl::Duration kStopGrace = absl::Seconds(2);  // for last words to reach their clients
constexpr int kUnendedOfStreams = 4;                     // times max_streams
constexpr absl::Duration kHangUpGrace = absl::Milliseconds(250);  // for clients to see the end
constexpr int kMostShadows = 4;                                   // at once

std::vector<VariantLabels> LabelsOf(const ServerConfig& config) {
  std::vector<VariantLabels> labels;
  for (const VariantSpec& spec : config.variants) {
    // The last rule matches what is left, most of the weights.
    labels.push_back({spec.name, FormatOf(spec.formats.back().format).name});
  }
  return labels;
}

// What a variant computes with: two that say the same give the same.
uint64_t QuantDigest(const VariantSpec& spec) {
  std::string made = absl::StrJoin(spec.formats, ";", [](std::string* out, const FormatRule& rule) {
    absl::StrAppend(out, rule.pattern, "=", FormatOf(rule.format).name);
  });
  if (spec.activations != Activations::kFull) {
    absl::StrAppend(&made, ";activations=", ActivationsName(spec.activations));
  }
  if (TraitsOf(spec.kv).scale_bytes > 0) absl::StrAppend(&made, ";kv=", KvTypeName(spec.kv));
  return UnitHash({}, made);
}

ServerLimits LimitsOf(const ServerConfig& config) {
  ServerLimits limits;
  limits.max_message_bytes = config.max_message_bytes;
  limits.default_deadline = config.default_deadline;
  limits.max_deadline = config.max_deadline;
  limits.max_peer_calls = config.EffectivePeerCalls();
  limits.max_unended = kUnendedOfStreams * config.max_streams;
  return limits;
}

class RealDaemon : public Daemon {
 public:
  RealDaemon(const ServerConfig& config, const Clock* clock, std::function<void()> drain_asked)
      : config_(config),
        clock_(clock),
        drain_asked_(std::move(drain_asked)),
        metrics_(config.EffectiveModelName(), LabelsOf(config),
                 config.engine.max_context > 0 ? config.engine.max_context : 100000),
        state_(LimitsOf(config), AccessPolicy(config.keys), &metrics_, &health_, clock),
        writers_(config.writer_threads, kWriterTick),
        tasks_(config.tokenizer_threads) {}
  ~RealDaemon() override { Stop(); }

  absl::Status Bind();
  absl::Status Load(std::unique_ptr<Backend> backend, const std::function<bool()>& stopping,
                    std::function<void(const absl::Status&)> engine_lost) override;
  void SetPacker(std::unique_ptr<Backend> packer) override { packer_ = std::move(packer); }
  void Drain(const std::function<bool()>& stopping) override;
  void Stop() override;

  std::string ReadyLine() const override {
    return absl::StrCat(
        "ready grpc=", grpc_address(), " http=", http_address(),
        config_.health.empty() ? "" : absl::StrCat(" health=", health_address()),
        config_.admin.empty() ? "" : absl::StrCat(" admin=", admin_address()),
        " model=", model_->name,
        " variants=", absl::StrJoin(model_->variants, ",", [](std::string* out, const Variant& v) {
          out->append(v.name);
        }));
  }
  std::string grpc_address() const override { return grpc_->address(); }
  std::string http_address() const override { return http_->address(); }
  std::string health_address() const override { return grpc_->health_address(); }
  std::string admin_address() const override { return grpc_->admin_address(); }
  std::string RenderPage() override { return RenderPage(PageFormat::kPrometheus, 0); }
  int exit_code() const override { return exit_code_.load(std::memory_order_acquire); }
  EngineSnapshot snapshot() const override { return engine_->Snapshot(); }

 private:
  void SetHealth(bool serving);
  std::string RenderPage(PageFormat format, int64_t connections);
  v1::Model Describe() const;
  // Before anybody is served. An error where no variant is left.
  absl::Status TestVariants();
  void MakeModelControl();
  void WatchGpu();
  void OnGpuEvent(const GpuEvent& event);
  absl::Status OpenExperiments();
  void Serve(std::function<void(const absl::Status&)> engine_lost, int64_t before_load_bytes);

  const ServerConfig config_;
  const Clock* const clock_;
  const std::function<void()> drain_asked_;
  Metrics metrics_;
  HealthBoard health_;
  ServerState state_;
  std::atomic<uint64_t> next_request_id_{1};
  std::atomic<int64_t> peak_load_bytes_{0};
  std::atomic<bool> ready_{false};
  std::atomic<bool> draining_{false};
  std::atomic<int> exit_code_{kExitOk};
  std::atomic<bool> loaded_{false};  // the engine may be asked for a snapshot

  // Destroyed from the last to the first: calls hold on to what stands above them.
  std::unique_ptr<Backend> packer_;  // until ModelControl has it
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Engine> engine_;
  // A drain does not wait for shadows: the writers may still end some.
  std::unique_ptr<Experiments> experiments_;
  ShadowPool shadows_{kMostShadows};
  WriterPool writers_;
  TaskPool tasks_;
  std::unique_ptr<ModelControl> models_;
  Served served_;
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<GrpcServer> grpc_;
  std::unique_ptr<Liveness> liveness_;
  std::unique_ptr<GpuEvents> gpu_events_;
};

void RealDaemon::SetHealth(bool serving) {
  health_.Set("readiness", serving);
  health_.Set("", serving);
  for (const VariantSpec& spec : config_.variants) {
    const int variant = model_ == nullptr ? -1 : model_->FindVariant(spec.name);
    const bool loaded = variant < 0 || model_->variants[static_cast<size_t>(variant)].loaded;
    health_.Set(absl::StrCat("vernier.v1.Inference/", spec.name), serving && loaded);
  }
}

absl::Status RealDaemon::Bind() {
  health_.Set("liveness", true);
  SetHealth(false);
  GrpcOptions grpc;
  grpc.listen = config_.listen;
  grpc.health_listen = config_.health;
  grpc.admin_listen = config_.admin;
  grpc.tls = config_.tls;
  grpc.admin_tls = config_.admin_tls;
  grpc.max_streams = config_.max_streams;
  grpc.connections = {.total = config_.max_connections,
                      .per_peer = config_.EffectivePeerConnections()};
  grpc.reflection =
      config_.reflection == Reflection::kOn || (config_.reflection == Reflection::kAuto &&
                                                config_.keys.empty() && IsLoopback(config_.listen));
  grpc.longest_stream = config_.max_deadline;
  auto started = GrpcServer::Start(grpc, &state_);
  if (!started.ok()) return started.status();
  grpc_ = *std::move(started);
  HttpOptions http;
  http.listen = config_.http;
  auto web = HttpServer::Start(
      http,
      [this](PageFormat format, int64_t connections) { return RenderPage(format, connections); },
      [this] { return ready_.load(std::memory_order_acquire); });
  if (!web.ok()) return web.status();
  http_ = *std::move(web);
  return absl::OkStatus();
}

std::string RealDaemon::RenderPage(PageFormat format, int64_t connections) {
  const absl::Duration began = clock_->Now();
  GaugeInputs inputs;
  inputs.ready = ready_.load(std::memory_order_acquire);
  inputs.draining = draining_.load(std::memory_order_acquire);
  inputs.now = began;
  inputs.connections = connections;
  inputs.grpc_connections = grpc_->Connections();
  inputs.tls_failures = TlsFailures();
  inputs.log_dropped = LogDropped();
  if (loaded_.load(std::memory_order_acquire)) inputs.engine = engine_->Snapshot();
  metrics_.SetGauges(inputs);
  auto families = metrics_.Collect();
  if (config_.metrics_compat == MetricsCompat::kVllm) {
    AppendVllmAliases(config_.EffectiveModelName(), &families);
  }
  if (loaded_.load(std::memory_order_acquire) && experiments_ != nullptr) {
    AppendExperimentFamilies(*experiments_->Figures(), config_.VariantNames(), &families);
  }
  std::string page =
      format == PageFormat::kOpenMetrics ? RenderOpenMetrics(families) : RenderPrometheus(families);
  metrics_.ObserveRender(clock_->Now() - began);
  return page;
}

v1::Model RealDaemon::Describe() const {
  ServedMemory memory;
  memory.kv_pool_bytes = backend_->Memory().kv_bytes;
  memory.workspace_bytes = backend_->Memory().workspace_bytes;
  memory.resident_bytes = ResidentAnonymousBytes();
  memory.peak_load_bytes = peak_load_bytes_.load();
  return DescribeModel(*model_, engine_->max_context(), memory, backend_->Describe(),
                       draining_.load(std::memory_order_acquire) ? v1::DRAINING : v1::READY);
}

absl::Status RealDaemon::Load(std::unique_ptr<Backend> backend,
                              const std::function<bool()>& stopping,
                              std::function<void(const absl::Status&)> engine_lost) {
  backend_ = std::move(backend);
  const int64_t before = ResidentAnonymousBytes();
  const auto sample_peak = [&] {
    peak_load_bytes_.store(std::max(peak_load_bytes_.load(), ResidentAnonymousBytes()));
  };
  LoadLog log(clock_->Now());
  const auto progress = [&](const LoadProgress& done) {
    sample_peak();
    const std::optional<std::string> line = log.Next(done, clock_->Now());
    if (line.has_value()) Log(LogLevel::kInfo, *line);
    return !stopping();
  };
  auto model = LoadModel(config_.model_path, config_.EffectiveModelName(), config_.variants,
                         backend_.get(), progress);
  if (!model.ok()) return model.status();
  model_ = *std::move(model);
  Log(LogLevel::kInfo, log.Last(*model_, clock_->Now()));
  if (stopping()) return absl::CancelledError("stopped while loading");
  auto engine = Engine::Create(config_.engine, model_.get(), backend_.get(), &metrics_, clock_);
  if (!engine.ok()) {
    // Options that contradict the model are the configuration's fault, not the weights'.
    return absl::IsInvalidArgument(engine.status())
               ? absl::OutOfRangeError(engine.status().message())
               : engine.status();
  }
  engine_ = *std::move(engine);
  sample_peak();
  if (absl::Status status = TestVariants(); !status.ok()) return status;
  if (absl::Status status = OpenExperiments(); !status.ok()) {
    return absl::FailedPreconditionError(status.message());
  }
  loaded_.store(true, std::memory_order_release);
  Serve(std::move(engine_lost), before);
  return absl::OkStatus();
}

absl::Status RealDaemon::TestVariants() {
  absl::Status first_failure;
  for (size_t i = 0; i < config_.variants.size(); ++i) {
    if (!model_->variants[i].loaded) continue;
    absl::Status status =
        SelfTest(config_.variants[i], static_cast<int>(i), engine_.get(), model_.get());
    if (!model_->variants[i].failed && !status.ok()) return status;
    first_failure.Update(status);
  }
  const bool any = std::any_of(model_->variants.begin(), model_->variants.end(),
                               [](const Variant& variant) -> bool { return variant.loaded; });
  if (any) return absl::OkStatus();
  return absl::Status(first_failure.code(),
                      absl::StrCat(config_.model_path, ": ", first_failure.message()));
}

absl::Status RealDaemon::OpenExperiments() {
  if (config_.experiments_folder.empty()) return absl::OkStatus();
  ExperimentsOptions options;
  options.folder = config_.experiments_folder;
  options.variants = config_.VariantNames();
  options.loaded = [this](int variant) -> bool {
    return model_->variants[static_cast<size_t>(variant)].loaded;
  };
  options.model_digest = UnitHash({}, model_->weights_sha256);
  options.server_build = UnitHash({}, kVersion);
  for (const VariantSpec& spec : config_.variants) {
    options.quant_digests.push_back(QuantDigest(spec));
  }
  auto opened = Experiments::Open(options);
  if (!opened.ok()) return opened.status();
  experiments_ = *std::move(opened);
  for (const ConfiguredExperiment& experiment : config_.experiments) {
    if (absl::Status status = experiments_->Configure(experiment.message); !status.ok()) {
      return absl::Status(status.code(),
                          absl::StrCat("experiments.define: experiment ", experiment.message.id(),
                                       ": ", status.message()));
    }
  }
  return absl::OkStatus();
}

void RealDaemon::MakeModelControl() {
  if (packer_ == nullptr) return;
  models_ = std::make_unique<ModelControl>(
      ModelControlOptions{.model_path = config_.model_path,
                          .specs = config_.variants,
                          .available_bytes = AvailableMemoryBytes,
                          .draining = [this] { return draining_.load(std::memory_order_acquire); }},
      model_.get(), engine_.get(), std::move(packer_), &health_, &metrics_);
}

void RealDaemon::Serve(std::function<void(const absl::Status&)> engine_lost,
                       int64_t before_load_bytes) {
  const BackendMemory memory = backend_->Memory();
  metrics_.SetModel(*model_, engine_->Snapshot().kv_blocks_total);
  metrics_.SetResident(before_load_bytes, ResidentAnonymousBytes(), memory.kv_bytes,
                       memory.workspace_bytes, *model_);
  served_.model = model_.get();
  served_.engine = engine_.get();
  served_.clock = clock_;
  served_.writers = &writers_;
  served_.tasks = &tasks_;
  served_.metrics = &metrics_;
  served_.next_request_id = &next_request_id_;
  served_.experiments = experiments_.get();
  served_.shadows = &shadows_;
  served_.slow_consumer = config_.slow_consumer;
  MakeModelControl();
  state_.SetControl({.backend = backend_->Describe(),
                     .tls = config_.tls.enabled(),
                     .client_certificates = !config_.tls.client_ca.empty(),
                     .draining = [this] { return draining_.load(std::memory_order_acquire); },
                     .models = models_.get(),
                     .drain = drain_asked_});
  state_.SetServed(&served_, [this] { return Describe(); });
  ready_.store(true, std::memory_order_release);
  SetHealth(true);
  liveness_ = std::make_unique<Liveness>(
      LivenessOptions{}, engine_.get(), clock_, &health_, &metrics_,
      [this] { return grpc_->Dial(kDialTimeout); },
      [this, engine_lost = std::move(engine_lost)](const absl::Status& status) {
        SetHealth(false);
        engine_lost(status);
      });
  WatchGpu();
}

void RealDaemon::WatchGpu() {
  const bool gpu = absl::StartsWith(backend_->Describe(), "cuda ");
  if (config_.nvml == "off" || (config_.nvml == "auto" && !gpu)) return;
  const char* const visible = std::getenv("CUDA_VISIBLE_DEVICES");
  auto watching = GpuEvents::Start(config_.nvml == "auto" ? kNvmlLibrary : config_.nvml,
                                   visible == nullptr ? "" : visible,
                                   [this](const GpuEvent& event) { OnGpuEvent(event); });
  if (watching.ok()) {
    gpu_events_ = *std::move(watching);
  } else {
    Log(LogLevel::kWarning,
        absl::StrCat("the GPU's errors are not heard of: ", watching.status().message()));
  }
}

void RealDaemon::OnGpuEvent(const GpuEvent& event) {
  metrics_.GpuReported(event);
  const std::string text =
      event.kind == GpuEvent::Kind::kXid ? absl::StrCat("Xid ", event.xid) : "an ECC error";
  if (!IsFatal(event)) {
    return Log(LogLevel::kWarning, absl::StrCat("the GPU's driver reports ", text));
  }
  Log(LogLevel::kError, absl::StrCat("the GPU's driver reports ", text, ": draining"));
  // Once: a second one would end the drain.
  if (exit_code_.exchange(kExitEngine, std::memory_order_acq_rel) == kExitOk &&
      !draining_.load(std::memory_order_acquire)) {
    drain_asked_();
  }
}

void RealDaemon::Drain(const std::function<bool()>& stopping) {
  draining_.store(true, std::memory_order_release);
  ready_.store(false, std::memory_order_release);
  SetHealth(false);
  if (engine_ == nullptr) return;
  engine_->StartDrain();
  const absl::Duration until = clock_->Now() + config_.drain;
  while (!stopping() && clock_->Now() < until) {
    const absl::Duration left = until - clock_->Now();
    if (state_.calls()->WaitForNone(std::min(left, absl::Milliseconds(100)))) return;
  }
}

void RealDaemon::Stop() {
  draining_.store(true, std::memory_order_release);
  ready_.store(false, std::memory_order_release);
  SetHealth(false);
  gpu_events_.reset();
  liveness_.reset();
  models_.reset();
  if (engine_ != nullptr) {
    engine_->StartDrain();
    engine_->Stop();
    state_.calls()->WaitForNone(kStopGrace);
  }
  health_.Close();
  state_.watches()->WaitForNone(kStopGrace);
  if (grpc_ != nullptr) grpc_->Shutdown(kHangUpGrace);
  http_.reset();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Bind(const ServerConfig& config, const Clock* clock,
                                                     std::function<void()> drain_asked) {
  auto daemon = std::make_unique<RealDaemon>(config, clock, std::move(drain_asked));
  if (absl::Status status = daemon->Bind(); !status.ok()) return status;
  return daemon;
}

int ExitCodeOfLoad(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
    case absl::StatusCode::kCancelled:
      return kExitOk;
    case absl::StatusCode::kOutOfRange:
      return kExitUsage;
    case absl::StatusCode::kResourceExhausted:
      return kExitResource;
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnavailable:
      return kExitEngine;
    default:
      return kExitData;
  }
}

}  // namespace vernier
