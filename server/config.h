// The daemon's configuration: one YAML file, flags over it, and every error at once.
//
// deploy/vernierd.example.yaml describes each key with its default and range. Pure functions, no
// file or network is touched but by ReadConfigFile.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/model/model.h"
#include "server/access.h"
#include "server/tls.h"
#include "vernier/v1/experiments.pb.h"

namespace vernier {

enum class MetricsCompat { kNone, kVllm };   // further names on the metrics page
enum class Reflection { kAuto, kOn, kOff };  // auto: on loopback listeners

struct ConfiguredExperiment {
  int line = 0;
  v1::Experiment message;  // as given; RUNNING: it is started where it is new
};

struct ServerConfig {
  std::string model_path;
  std::string model_name;  // empty: from the path
  std::string backend = "auto";
  // auto (libnvidia-ml.so.1, where the backend is a GPU) | off | a path, whatever the backend.
  std::string nvml = "auto";
  std::string cuda_module;  // empty: ../lib/libvernier_cuda.so from the program's folder
  bool deterministic = false;
  std::vector<VariantSpec> variants;
  std::string listen = "127.0.0.1:50051";
  std::string http = "127.0.0.1:9090";
  std::string health;  // empty: no listener of its own
  std::string admin;   // empty: no admin services
  TlsFiles tls;        // of `listen`
  TlsFiles admin_tls;
  std::vector<AccessKey> keys;     // empty: no key is asked for
  std::string experiments_folder;  // empty: no experiments
  std::vector<ConfiguredExperiment> experiments;
  int max_streams = 256;          // of one connection, at once
  int max_peer_calls = -1;        // of one client address, at once; 0: no limit; -1: the default
  int max_connections = 4096;     // of `listen`, at once
  int max_peer_connections = -1;  // of one client address, likewise; 0: no limit; -1: the default
  EngineOptions engine;
  int threads = 0;
  std::string isa = "auto";
  bool fast_prefill = false;
  bool pin_threads = false;
  absl::Duration default_deadline = absl::Seconds(600);
  absl::Duration max_deadline = absl::Hours(1);
  absl::Duration drain = absl::Seconds(90);
  absl::Duration slow_consumer = absl::Seconds(5);
  int64_t max_message_bytes = 1 << 20;
  Reflection reflection = Reflection::kAuto;
  MetricsCompat metrics_compat = MetricsCompat::kNone;
  int tokenizer_threads = 1;
  int writer_threads = 2;
  bool behind_proxy = false;

  // As configured, else the last part of the path, lower case, without ".gguf".
  std::string EffectiveModelName() const;
  std::vector<std::string> VariantNames() const;
  // As configured, else 256, and behind a proxy, whose address all calls have, none.
  int EffectivePeerCalls() const { return OfOnePeer(max_peer_calls); }
  int EffectivePeerConnections() const { return OfOnePeer(max_peer_connections); }

 private:
  int OfOnePeer(int configured) const;
};

struct ConfigError {
  int line = 0;  // 1-based; 0: of a flag, or of the whole
  std::string message;
};

struct ParsedConfig {
  bool readable = true;  // false: not YAML, so that nothing of it was read
  ServerConfig config;
  std::vector<ConfigError> errors;   // in the order of their lines
  std::map<std::string, int> lines;  // of each key that was given, by path: "engine.kv_bytes"
};

inline constexpr int64_t kMaxConfigBytes = 1 << 20;

// Every error of single keys. An empty text is a configuration of defaults.
ParsedConfig ParseConfig(absl::string_view text);
// Appends what is wrong with the configuration as a whole: what is missing, what contradicts. After
// flags were applied.
void CheckConfig(ParsedConfig* parsed);
// The part of CheckConfig about TLS, keys and the admin listener.
void CheckAccess(ParsedConfig* parsed);
// The part of CheckConfig about experiments.
void CheckExperiments(ParsedConfig* parsed);
// Sets `variants` from names that ParseVariant knows: "fp16,int8+a8,nf4".
void SetVariants(absl::string_view names, ParsedConfig* parsed);
// True for HOST:PORT with a port of at most 65535.
bool IsAddress(absl::string_view text);
// True for 127.0.0.0/8, ::1 and localhost.
bool IsLoopback(absl::string_view address);

// NOT_FOUND, or INVALID_ARGUMENT above kMaxConfigBytes.
absl::StatusOr<std::string> ReadConfigFile(const std::string& path);

// One line an error: "FILE:LINE: MESSAGE".
std::string FormatErrors(const std::string& file, const std::vector<ConfigError>& errors);

}  // namespace vernier
