#include "cli/models_report.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "cli/display_text.h"
#include "cli/table.h"
#include "engine/model/activations.h"

namespace vernier::cli {
namespace {

std::string Known(bool has, const std::string& reason) {
  return has ? "yes" : absl::StrCat("no", reason.empty() ? "" : ": ", reason);
}

Table Facts(const v1::Model& model) {
  Table facts;
  facts.left_aligned = 2;
  facts.header = {"model", model.name()};
  facts.rows = {
      {"architecture", model.architecture()},
      {"source", model.source()},
      {"parameters", FormatCount(model.parameters())},
      {"vocabulary", absl::StrCat(model.vocab_size(), " tokens")},
      {"context", absl::StrCat(model.max_context(), " tokens")},
      {"tokenizer", Known(model.has_tokenizer(), model.no_tokenizer_reason())},
      {"chat template", Known(model.has_chat_template(), model.no_chat_reason())},
      {"weights sha256", model.weights_sha256()},
      {"integrity", model.integrity()},
      {"backend", model.backend()},
  };
  return facts;
}

// As `--variants` takes it.
std::string FormatName(const v1::Variant& variant) {
  const auto activations = ParseActivations(variant.activations());
  return absl::StrCat(variant.precision(), activations ? TraitsOf(*activations).suffix : "");
}

Table Variants(const v1::Model& model) {
  Table table;
  table.left_aligned = 4;
  table.header = {"variant", "format", "kv", "status", "own", "shared", "kv/token", "loaded in"};
  for (const v1::Variant& variant : model.variants()) {
    const v1::VariantMemory& memory = variant.memory();
    table.rows.push_back(
        {variant.name(), FormatName(variant), variant.kv_type(),
         absl::AsciiStrToLower(v1::VariantState_Name(variant.state())),
         FormatBytes(memory.own_weight_bytes()), FormatBytes(memory.shared_weight_bytes()),
         FormatBytes(memory.kv_bytes_per_token()), FormatSeconds(variant.load_seconds())});
  }
  return table;
}

Table Memory(const v1::Model& model) {
  Table table;
  table.header = {"memory", "bytes", ""};
  const auto row = [&](const char* name, uint64_t bytes) {
    table.rows.push_back({name, FormatCount(bytes), FormatBytes(bytes)});
  };
  row("weights, all variants", model.weight_bytes());
  row("  of them shared", model.shared_weight_bytes());
  row("KV pool", model.kv_pool_bytes());
  row("workspace", model.workspace_bytes());
  row("resident now", model.resident_bytes());
  row("peak while loading", model.peak_load_bytes());
  row("files on disk", model.disk_bytes());
  return table;
}

}  // namespace

std::string RenderModel(const v1::Model& model) {
  std::string out = absl::StrCat(RenderTable(Facts(model)), "\n", RenderTable(Variants(model)));
  for (const v1::Variant& variant : model.variants()) {
    for (const std::string& copy : variant.tied_copies()) {
      absl::StrAppend(&out, Neutralize(absl::StrCat(
                                variant.name(), " stores ", copy,
                                " twice: a rule gives it another format than the embedding\n")));
    }
  }
  absl::StrAppend(&out, "\n", RenderTable(Memory(model)));
  if (model.source_is_quantized()) {
    absl::StrAppend(&out, "\nThe file itself is quantized (source: ", Neutralize(model.source()),
                    "): every variant is made from those weights.\n");
  }
  return out;
}

}  // namespace vernier::cli
