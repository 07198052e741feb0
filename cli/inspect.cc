// vernier inspect: what a model's files hold.
#include <map>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "cli/call_error.h"
#include "cli/json_output.h"
#include "cli/manifest_file.h"
#include "cli/offline.h"
#include "cli/table.h"
#include "engine/checkpoint/checkpoint.h"

namespace vernier::cli {
namespace {

using nlohmann::ordered_json;

struct FormatShare {
  int64_t tensors = 0;
  int64_t bytes = 0;
};

std::map<std::string, FormatShare> SharesOf(const Checkpoint& checkpoint) {
  std::map<std::string, FormatShare> shares;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    FormatShare& share = shares[tensor.type];
    ++share.tensors;
    share.bytes += tensor.bytes;
  }
  return shares;
}

// 1e-5f as 1e-5, not as the double next to it.
double AsWritten(float value) {
  double out = value;
  return absl::SimpleAtod(absl::StrCat(value), &out) ? out : value;
}

// Names and values in the order in which both outputs show them.
ordered_json Hyperparameters(const ModelConfig& config) {
  return {
      {"num_layers", config.num_layers},
      {"hidden", config.hidden},
      {"intermediate", config.intermediate},
      {"num_heads", config.attention.num_heads},
      {"num_kv_heads", config.attention.num_kv_heads},
      {"head_dim", config.attention.head_dim},
      {"norm", config.norm == NormKind::kRms ? "rms" : "layer"},
      {"norm_epsilon", AsWritten(config.norm_epsilon)},
      {"activation", config.activation == ActivationKind::kSilu ? "silu" : "gelu"},
      {"gated_mlp", config.gated_mlp},
      {"positions", config.learned_positions ? "learned" : "rotary"},
      {"tied_lm_head", config.tied_lm_head},
      {"begin_token", config.begin_token < 0 ? ordered_json() : ordered_json(config.begin_token)},
      {"end_tokens", config.end_tokens}};
}

// Without --digest names and sizes alone were compared with the manifest.
std::string IntegrityOf(const Checkpoint& checkpoint, const std::string& digest) {
  if (checkpoint.manifest() == nullptr) return "structure only";
  return digest.empty() ? "names and sizes" : "manifest";
}

ordered_json Describe(const Checkpoint& checkpoint, const std::string& digest) {
  const ModelConfig& config = checkpoint.config();
  const TokenizerSource& tokenizer = checkpoint.tokenizer_source();
  ordered_json out = {{"architecture", config.architecture},
                      {"source", checkpoint.source()},
                      {"source_is_quantized", checkpoint.source_is_quantized()},
                      {"weights_sha256", digest.empty() ? ordered_json() : ordered_json(digest)},
                      {"integrity", IntegrityOf(checkpoint, digest)},
                      {"parameters", config.Parameters()},
                      {"vocab_size", config.vocab},
                      {"max_context", config.context},
                      {"has_tokenizer", tokenizer.kind != TokenizerSource::Kind::kNone},
                      {"no_tokenizer_reason", tokenizer.reason},
                      {"disk_bytes", checkpoint.disk_bytes()},
                      {"hyperparameters", Hyperparameters(config)}};
  ordered_json& formats = out["formats"] = ordered_json::array();
  for (const auto& [type, share] : SharesOf(checkpoint)) {
    formats.push_back({{"type", type}, {"tensors", share.tensors}, {"bytes", share.bytes}});
  }
  ordered_json& tensors = out["tensors"] = ordered_json::array();
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    tensors.push_back({{"name", tensor.name},
                       {"file_name", tensor.file_name},
                       {"type", tensor.type},
                       {"shape", tensor.shape},
                       {"bytes", tensor.bytes}});
  }
  return out;
}

std::string ValueText(const ordered_json& value) {
  if (value.is_null()) return kNotMeasured;
  return value.is_string() ? value.get<std::string>() : value.dump();
}

std::string Render(const ordered_json& description, bool with_tensors) {
  Table facts;
  facts.left_aligned = 2;
  facts.header = {"architecture", ValueText(description["architecture"])};
  for (const auto& [key, value] : description.items()) {
    if (key != "architecture" && value.is_primitive() && value != "")
      facts.rows.push_back({key, ValueText(value)});
  }
  for (const auto& [key, value] : description["hyperparameters"].items()) {
    facts.rows.push_back({key, ValueText(value)});
  }
  Table formats;
  formats.header = {"stored as", "tensors", "bytes", ""};
  for (const auto& format : description["formats"]) {
    formats.rows.push_back({ValueText(format["type"]), ValueText(format["tensors"]),
                            ValueText(format["bytes"]),
                            FormatBytes(format["bytes"].get<uint64_t>())});
  }
  std::string out = absl::StrCat(RenderTable(facts), "\n", RenderTable(formats));
  if (!with_tensors) return out;
  Table tensors;
  tensors.header = {"tensor", "in the file", "type", "shape", "bytes"};
  tensors.left_aligned = 3;
  for (const auto& tensor : description["tensors"]) {
    tensors.rows.push_back({ValueText(tensor["name"]), ValueText(tensor["file_name"]),
                            ValueText(tensor["type"]), ValueText(tensor["shape"]),
                            ValueText(tensor["bytes"])});
  }
  return absl::StrCat(out, "\n", RenderTable(tensors));
}

}  // namespace

CommandResult Inspect(const CommandLine& command, const Terminal& terminal) {
  const InspectOptions& options = command.inspect;
  // An old manifest must not keep a new one from being written.
  const auto checkpoint = Checkpoint::Open(
      options.model, options.write_manifest ? ManifestUse::kIgnore : ManifestUse::kVerify);
  if (!checkpoint.ok()) return ExplainInput(checkpoint.status());
  std::string manifest_path;
  if (options.write_manifest) {
    auto written = WriteManifest(options.model, **checkpoint,
                                 options.golden ? Golden::kRecord : Golden::kNone);
    if (!written.ok()) return ExplainInput(written.status());
    manifest_path = *std::move(written);
  }
  std::string digest;
  if (options.digest) {
    auto sum = (*checkpoint)->WeightsSha256();
    if (!sum.ok()) return ExplainInput(sum.status());
    digest = *std::move(sum);
  }
  ordered_json description = Describe(**checkpoint, digest);
  if (!manifest_path.empty()) {
    description["integrity"] = "manifest";  // it was made of what is here
    description["manifest_written"] = manifest_path;
  }
  *terminal.out << (command.json ? JsonLine(description) : Render(description, options.tensors));
  return {};
}

}  // namespace vernier::cli
