#include "server/config.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <limits>
#include <optional>
#include <set>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/model/activations.h"
#include "kernels/kv_type.h"
#include "kernels/quant_format.h"
#include "server/config_reader.h"

namespace vernier {
namespace {

constexpr size_t kMaxVariants = 16;

bool IsVariantName(absl::string_view name) {
  if (name.empty() || name.size() > 63) return false;
  for (size_t i = 0; i < name.size(); ++i) {
    const char c = name[i];
    const bool inner = c == '.' || c == '_' || c == '+' || c == '-';
    if (!absl::ascii_islower(c) && !absl::ascii_isdigit(c) && !(i > 0 && inner)) return false;
  }
  return true;
}

std::optional<FormatId> ReadFormat(ConfigReader* reader, const YAML::Node& node) {
  const std::string text = node.IsScalar() ? node.Scalar() : "";
  if (const auto format = ParseFormat(text); format.ok()) return *format;
  reader->Error(node, absl::StrCat("unknown format ", ConfigReader::Shown(text)));
  return std::nullopt;
}

void ReadFormats(ConfigReader* reader, const YAML::Node& node, std::vector<FormatRule>* formats) {
  if (!node.IsSequence()) {
    return reader->Error(node, "formats must be a list of [pattern, format]");
  }
  for (const YAML::Node& rule : node) {
    if (!rule.IsSequence() || rule.size() != 2 || !rule[0].IsScalar() || !rule[1].IsScalar()) {
      reader->Error(rule, "a rule of formats must be [pattern, format]");
      continue;
    }
    if (const auto format = ReadFormat(reader, rule[1])) {
      formats->push_back({rule[0].Scalar(), *format});
    }
  }
  if (node.size() == 0 || formats->empty() || formats->back().pattern != "*") {
    reader->Error(node, "the last rule of formats must have the pattern \"*\"");
  }
}

std::vector<std::string> KvTypeNames() {
  std::vector<std::string> names;
  for (const KvTypeTraits& traits : kKvTypes) names.push_back(traits.name);
  return names;
}

std::vector<std::string> ActivationsNames() {
  std::vector<std::string> names;
  for (const ActivationsTraits& traits : kActivations) names.push_back(traits.name);
  return names;
}

void ReadVariants(ConfigReader* reader, const YAML::Node& node, ServerConfig* config) {
  std::vector<VariantSpec>* variants = &config->variants;
  if (!node.IsSequence()) return reader->Error(node, "variants must be a list");
  if (node.size() == 0) return reader->Error(node, "no variant: at least one is needed");
  if (node.size() > kMaxVariants) {
    return reader->Error(node,
                         absl::StrCat(node.size(), " variants, must be at most ", kMaxVariants));
  }
  bool any_at_start = false;
  for (const YAML::Node& entry : node) {
    VariantSpec spec;
    std::string kv, activations;
    bool has_formats = false;
    std::optional<FormatId> lm_head;
    int64_t guaranteed_blocks = 0;
    double weight = 1;
    reader->ReadMap(entry, "variants",
                    {{"name", reader->Text(&spec.name)},
                     {"kv_blocks", reader->Whole(&guaranteed_blocks, 0, int64_t{1} << 40)},
                     {"weight", reader->Number(&weight, kLeastWeight, kMostWeight)},
                     {"at_start", reader->Bool(&spec.at_start)},
                     {"kv", reader->OneOf(&kv, KvTypeNames())},
                     {"activations", reader->OneOf(&activations, ActivationsNames())},
                     {"formats",
                      [&](const YAML::Node& formats, const std::string&) {
                        has_formats = true;
                        ReadFormats(reader, formats, &spec.formats);
                      }},
                     {"lm_head", [&](const YAML::Node& format, const std::string&) {
                        lm_head = ReadFormat(reader, format);
                      }}});
    if (!entry.IsMap()) continue;
    any_at_start |= spec.at_start;
    if (!IsVariantName(spec.name)) {
      // Not kept: other messages list the names.
      reader->Error(entry, "a variant's name must match [a-z0-9][a-z0-9._+-]{0,62}");
      continue;
    }
    if (std::any_of(variants->begin(), variants->end(),
                    [&](const VariantSpec& v) { return v.name == spec.name; })) {
      reader->Error(entry,
                    absl::StrCat("variant ", ConfigReader::Shown(spec.name), " is given twice"));
    }
    if (!has_formats) {
      // A bare name of a format, with or without what may stand behind it, is a variant of its own.
      if (const auto bare = ParseVariant(spec.name); bare.ok()) {
        spec.formats = bare->formats;
        spec.kv = bare->kv;
        spec.activations = bare->activations;
      } else {
        reader->Error(entry,
                      absl::StrCat("variant ", ConfigReader::Shown(spec.name), " has no formats"));
      }
    }
    if (const auto type = ParseKvType(kv); type.ok()) spec.kv = *type;
    spec.activations = ParseActivations(activations).value_or(spec.activations);
    if (lm_head.has_value()) spec.formats.insert(spec.formats.begin(), {"lm_head", *lm_head});
    variants->push_back(std::move(spec));
    config->engine.guaranteed_blocks.push_back(guaranteed_blocks);
    config->engine.weights.push_back(weight);
  }
  if (!variants->empty() && !any_at_start) {
    reader->Error(node, "no variant is there at the start");
  }
}

constexpr int64_t kMany = int64_t{1} << 40;  // more than any machine has of anything

ConfigReader::Keys EngineKeys(ConfigReader* reader, EngineOptions* engine) {
  return {{"max_sequences", reader->Whole(&engine->max_sequences, 1, 4096)},
          {"step_tokens", reader->Whole(&engine->step_tokens, 1, 16384)},
          {"max_logit_rows", reader->Whole(&engine->max_logit_rows, 0, 4096)},
          {"kv_blocks", reader->Whole(&engine->kv_blocks, 0, kMany)},
          {"kv_bytes", reader->Whole(&engine->kv_bytes, 0, kMany)},
          {"max_context", reader->Whole(&engine->max_context, 0, int64_t{1} << 24)},
          {"inter_token_seconds", reader->Seconds(&engine->inter_token_goal, 0.0001)},
          {"aging_seconds", reader->Seconds(&engine->aging, 0.001)},
          {"prefix_cache", reader->Bool(&engine->prefix_cache)},
          {"max_preemptions", reader->Whole(&engine->max_preemptions, 0, 100)},
          {"planning_depth", reader->Whole(&engine->planning_depth, 1, 2)}};
}

void ReadRoot(ConfigReader* reader, const YAML::Node& root, ServerConfig* config) {
  EngineOptions& engine = config->engine;
  AdmissionLimits& admission = engine.admission;
  std::string reflection = "auto", metrics_compat = "none";
  const auto section = [&](ConfigReader::Keys keys) {
    return [reader, keys = std::move(keys)](const YAML::Node& node, const std::string& path) {
      reader->ReadMap(node, path, keys);
    };
  };
  const auto limit = [&](AdmissionLimit* out) {
    return section({{"max_requests", reader->Whole(&out->max_requests, 1, kMany)},
                    {"max_tokens", reader->Whole(&out->max_tokens, 1, kMany)}});
  };
  reader->ReadMap(
      root, "",
      {{"model", section({{"path", reader->Text(&config->model_path)},
                          {"name", reader->Text(&config->model_name)}})},
       {"backend", reader->OneOf(&config->backend, {"auto", "cpu", "cuda", "reference"})},
       {"cuda_module", reader->Text(&config->cuda_module)},
       {"nvml", reader->Text(&config->nvml)},
       {"deterministic", reader->Bool(&config->deterministic)},
       {"variants",
        [&](const YAML::Node& node, const std::string&) { ReadVariants(reader, node, config); }},
       {"listen", reader->Address(&config->listen)},
       {"http", reader->Address(&config->http)},
       {"health", reader->Address(&config->health)},
       {"admin", reader->Address(&config->admin)},
       {"tls", section(TlsKeys(reader, &config->tls))},
       {"admin_tls", section(TlsKeys(reader, &config->admin_tls))},
       {"keys",
        [&](const YAML::Node& node, const std::string&) { ReadKeys(reader, node, &config->keys); }},
       {"experiments", section(ExperimentsKeys(reader, config))},
       {"max_streams", reader->Whole(&config->max_streams, 1, 65536)},
       {"max_peer_calls", reader->Whole(&config->max_peer_calls, 0, 1 << 20)},
       {"max_connections", reader->Whole(&config->max_connections, 1, 1 << 20)},
       {"max_peer_connections", reader->Whole(&config->max_peer_connections, 0, 1 << 20)},
       {"threads", reader->Whole(&config->threads, 0, 1024)},
       {"isa",
        reader->OneOf(&config->isa, {"auto", "portable", "avx2", "avx512", "avx512_bf16", "amx"})},
       {"fast_prefill", reader->Bool(&config->fast_prefill)},
       {"pin_threads", reader->Bool(&config->pin_threads)},
       {"admission",
        section({{"max_requests", reader->Whole(&admission.max_requests, 1, int64_t{1} << 20)},
                 {"max_tokens", reader->Whole(&admission.max_tokens, 1, kMany)},
                 {"max_wait_seconds", reader->Seconds(&admission.max_wait, 0.001)},
                 {"variant", limit(&admission.variant)},
                 {"tenant", limit(&admission.tenant)}})},
       {"engine", section(EngineKeys(reader, &engine))},
       {"deadlines",
        section({{"default_seconds", reader->Seconds(&config->default_deadline, 0.001)},
                 {"max_seconds", reader->Seconds(&config->max_deadline, 0.001)}})},
       {"max_message_bytes", reader->Whole(&config->max_message_bytes, 1024, 4 << 20)},
       {"drain_seconds", reader->Seconds(&config->drain, 0)},
       {"slow_consumer_seconds", reader->Seconds(&config->slow_consumer, 0.1)},
       {"metrics_compat", reader->OneOf(&metrics_compat, {"none", "vllm"})},
       {"reflection", reader->OneOf(&reflection, {"auto", "on", "off"})},
       {"tokenizer_threads", reader->Whole(&config->tokenizer_threads, 1, 64)},
       {"writer_threads", reader->Whole(&config->writer_threads, 1, 64)},
       {"behind_proxy", reader->Bool(&config->behind_proxy)}});
  if (metrics_compat == "vllm") config->metrics_compat = MetricsCompat::kVllm;
  config->reflection = reflection == "on"    ? Reflection::kOn
                       : reflection == "off" ? Reflection::kOff
                                             : Reflection::kAuto;
}

// Notices where a document starts.
class DocumentStart : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark& mark) override { line_ = mark.line + 1; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
  int line() const { return line_; }

 private:
  int line_ = 0;
};

// Where something follows the first document, which YAML::Load passes over in silence; 0: nowhere.
// Looks no further: yaml-cpp 0.7 finds documents without end behind a stray comma.
int LineAfterDocument(const std::string& text) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  DocumentStart first, second;
  return parser.HandleNextDocument(first) && parser.HandleNextDocument(second) ? second.line() : 0;
}

}  // namespace

bool IsAddress(absl::string_view text) {
  const size_t colon = text.rfind(':');
  int port = -1;
  return colon != absl::string_view::npos && colon > 0 && text.size() <= 300 &&
         absl::SimpleAtoi(text.substr(colon + 1), &port) && port >= 0 && port <= 65535 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

std::string ServerConfig::EffectiveModelName() const {
  if (!model_name.empty()) return model_name;
  absl::string_view path = absl::StripSuffix(model_path, "/");
  path = path.substr(path.rfind('/') + 1);
  std::string name = absl::AsciiStrToLower(absl::StripSuffix(path, ".gguf"));
  // A colon in an address divides name and variant.
  std::replace(name.begin(), name.end(), ':', '-');
  return name.empty() ? "model" : name;
}

std::vector<std::string> ServerConfig::VariantNames() const {
  std::vector<std::string> names;
  for (const VariantSpec& spec : variants) names.push_back(spec.name);
  return names;
}

int ServerConfig::OfOnePeer(int configured) const {
  if (configured >= 0) return configured;
  return behind_proxy ? 0 : 256;
}

ParsedConfig ParseConfig(absl::string_view text) {
  ParsedConfig parsed;
  if (text.size() > kMaxConfigBytes) {
    parsed.errors.push_back({0, absl::StrCat("the file is larger than ", kMaxConfigBytes)});
    return parsed;
  }
  try {
    const YAML::Node root = YAML::Load(std::string(text));
    if (const int line = LineAfterDocument(std::string(text)); line > 0) {
      parsed.errors.push_back({line, "a second document, or what is none: there must be one"});
    }
    ConfigReader reader(&parsed);
    if (!root.IsNull()) ReadRoot(&reader, root, &parsed.config);
  } catch (const YAML::Exception& error) {
    parsed.readable = false;
    parsed.errors.push_back(
        {error.mark.line + 1, absl::StrCat("not YAML: ", Printable(error.msg))});
  }
  std::stable_sort(parsed.errors.begin(), parsed.errors.end(),
                   [](const ConfigError& a, const ConfigError& b) { return a.line < b.line; });
  return parsed;
}

void CheckConfig(ParsedConfig* parsed) {
  if (!parsed->readable) return;  // what it lacks is in the part that was not read
  const ServerConfig& config = parsed->config;
  const EngineOptions& engine = config.engine;
  const auto error = [&](const std::string& key, const std::string& message) {
    const auto line = parsed->lines.find(key);
    parsed->errors.push_back({line == parsed->lines.end() ? 0 : line->second, message});
  };
  if (config.model_path.empty()) error("model.path", "no model: give model.path, or --model");
  if (config.model_name.find(':') != std::string::npos) {
    error("model.name", "model.name must have no colon: it divides name and variant");
  }
  // An empty list has been reported where it stands.
  if (config.variants.empty() && parsed->lines.count("variants") == 0) {
    error("variants", "no variant: give variants, or --variants");
  }
  if (config.default_deadline > config.max_deadline) {
    error("deadlines.default_seconds", "deadlines.default_seconds is above max_seconds");
  }
  if (config.fast_prefill && config.deterministic) {
    error("fast_prefill", "fast_prefill gives up what deterministic asks for: one of them");
  }
  if (engine.kv_blocks > 0 && engine.max_context > 0 &&
      engine.kv_blocks * kBlockTokens < engine.max_context) {
    error("engine.kv_blocks",
          absl::StrCat("engine.kv_blocks hold ", engine.kv_blocks * kBlockTokens,
                       " tokens, less than engine.max_context"));
  }
  // What is kept for variants must leave others something; exactly what is known with the model.
  int64_t guaranteed = 0;
  for (const int64_t blocks : engine.guaranteed_blocks) {
    guaranteed = std::min(guaranteed + blocks, std::numeric_limits<int64_t>::max() / 4);
  }
  if (engine.kv_blocks > 0 && guaranteed > engine.kv_blocks) {
    error("variants", absl::StrCat("kv_blocks of all variants are ", guaranteed,
                                   ", more than engine.kv_blocks ", engine.kv_blocks));
  }
  if (engine.kv_blocks == 0 && engine.kv_bytes == 0) {
    error("engine.kv_bytes", "engine.kv_bytes and engine.kv_blocks are both 0");
  }
  if (engine.max_context > engine.admission.max_tokens) {
    error("admission.max_tokens", "admission.max_tokens is less than engine.max_context");
  }
  if (engine.max_sequences > engine.admission.max_requests) {
    error("engine.max_sequences", "engine.max_sequences is above admission.max_requests");
  }
  CheckAccess(parsed);
  CheckExperiments(parsed);
  const std::pair<std::string, std::string> listeners[] = {{"listen", config.listen},
                                                           {"http", config.http},
                                                           {"health", config.health},
                                                           {"admin", config.admin}};
  for (size_t i = 0; i < std::size(listeners); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const auto& [key, address] = listeners[i];
      if (!address.empty() && address == listeners[j].second && !absl::EndsWith(address, ":0")) {
        error(key, absl::StrCat(key, " is the same address as ", listeners[j].first));
      }
    }
  }
}

void SetVariants(absl::string_view names, ParsedConfig* parsed) {
  parsed->config.variants.clear();
  parsed->config.engine.guaranteed_blocks.clear();
  parsed->config.engine.weights.clear();
  parsed->lines.try_emplace("variants", 0);
  for (const absl::string_view name : absl::StrSplit(names, ',')) {
    auto spec = ParseVariant(name);
    if (!spec.ok()) {
      parsed->errors.push_back({0, absl::StrCat("--variants: ", spec.status().message())});
      continue;
    }
    if (std::any_of(parsed->config.variants.begin(), parsed->config.variants.end(),
                    [&](const VariantSpec& v) { return v.name == spec->name; })) {
      parsed->errors.push_back({0, absl::StrCat("--variants: ", spec->name, " is given twice")});
      continue;
    }
    parsed->config.variants.push_back(*std::move(spec));
  }
}

absl::StatusOr<std::string> ReadConfigFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  std::string text;
  char buffer[4096];
  while (file.read(buffer, sizeof(buffer)) || file.gcount() > 0) {
    text.append(buffer, static_cast<size_t>(file.gcount()));
    if (static_cast<int64_t>(text.size()) > kMaxConfigBytes) {
      return absl::InvalidArgumentError(absl::StrCat(path, " is larger than ", kMaxConfigBytes));
    }
  }
  return text;
}

std::string FormatErrors(const std::string& file, const std::vector<ConfigError>& errors) {
  std::string out;
  for (const ConfigError& error : errors) {
    if (error.line > 0) {
      absl::StrAppend(&out, file, ":", error.line, ": ", error.message, "\n");
    } else {
      absl::StrAppend(&out, "vernierd: ", error.message, "\n");
    }
  }
  return out;
}

}  // namespace vernier
