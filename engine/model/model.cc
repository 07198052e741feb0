#include "engine/model/model.h"

#include <algorithm>
#include <array>
#include <future>
#include <set>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/model/load_plan.h"
#include "engine/model/load_tensors.h"
#include "engine/status_payload.h"
#include "kernels/base/log.h"

namespace vernier {
namespace {

bool IsVariantName(absl::string_view name) {
  if (name.empty() || name.size() > 63) return false;
  auto is_alphanumeric = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  for (const char c : name) {
    if (!is_alphanumeric(c) && absl::string_view("._+-").find(c) == absl::string_view::npos) {
      return false;
    }
  }
  return is_alphanumeric(name[0]);
}

absl::Status LoadRotary(Backend* backend, Model* model) {
  if (model->config.learned_positions) return absl::OkStatus();
  // No checkpoint has a tensor of these names.
  auto load = [&](const char* name, const std::vector<float>& frequencies, Rotary* rotary) {
    absl::StatusOr<Vector> vector = backend->CreateVector(frequencies);
    if (!vector.ok()) return vector.status();
    auto& own = model->vectors[name] = std::make_unique<const Vector>(*std::move(vector));
    rotary->inverse_frequencies = own.get();
    return absl::OkStatus();
  };
  if (absl::Status status = load(" rotary", model->config.inverse_frequencies, &model->rotary);
      !status.ok()) {
    return status;
  }
  model->window_rotary = model->rotary;
  if (model->config.window_inverse_frequencies.empty()) return absl::OkStatus();
  return load(" window rotary", model->config.window_inverse_frequencies, &model->window_rotary);
}

// What the file has of text: absent or unsupported parts leave a reason, broken ones are errors.
absl::Status LoadText(const TokenizerSource& source, Model* model) {
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Create(source);
  if (absl::IsUnimplemented(tokenizer.status()) || absl::IsFailedPrecondition(tokenizer.status())) {
    model->no_tokenizer_reason = std::string(tokenizer.status().message());
    model->no_chat_reason = absl::StrCat("no tokenizer: ", model->no_tokenizer_reason);
    return absl::OkStatus();
  }
  if (!tokenizer.ok()) return tokenizer.status();
  if ((*tokenizer)->vocab_size() > model->config.vocab) {
    return absl::InvalidArgumentError(absl::StrCat("the tokenizer has ", (*tokenizer)->vocab_size(),
                                                   " tokens, the model's vocabulary ",
                                                   model->config.vocab));
  }
  model->tokenizer = *std::move(tokenizer);
  model->memory.tokenizer_bytes = model->tokenizer->bytes();

  if (source.chat_template.empty()) {
    model->no_chat_reason = "the checkpoint has no chat template";
    return absl::OkStatus();
  }
  const Tokenizer& made = *model->tokenizer;
  ChatTemplateOptions options;
  options.begin_token = made.TokenBytes(made.begin_token(), /*special_as_text=*/true);
  options.end_token = made.TokenBytes(made.end_token(), /*special_as_text=*/true);
  absl::StatusOr<std::unique_ptr<ChatTemplate>> chat =
      ChatTemplate::Create(source.chat_template, std::move(options));
  if (!chat.ok()) {  // the model serves text all the same
    model->no_chat_reason =
        absl::StrCat("the chat template cannot be read: ", chat.status().message());
    Log(LogLevel::kWarning, absl::StrCat("chat is refused: ", model->no_chat_reason));
    return absl::OkStatus();
  }
  model->chat_template = *std::move(chat);
  return absl::OkStatus();
}

FormatId PrecisionOf(const VariantWeights& variant) {
  std::array<int64_t, kNumFormats> bytes{};
  for (const LayerWeights& layer : variant.layers) {
    for (const Linear* linear :
         {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down}) {
      if (linear->weight == nullptr) continue;
      bytes[static_cast<size_t>(linear->weight->format)] += linear->weight->bytes;
    }
  }
  FormatId most = FormatId::kF32;
  for (const QuantFormat& format : QuantFormats()) {
    if (bytes[static_cast<size_t>(format.id)] > bytes[static_cast<size_t>(most)]) most = format.id;
  }
  return most;
}

// The formats that must take the variant's activations. bf16 ones: those of all but lm_head and
// embeddings, which may be of another and take x in full then. Others: those of fewer than 16 bits,
// or all where there are none.
std::vector<FormatId> MultipliedFormats(const VariantSpec& variant) {
  std::vector<FormatId> all, quantized, of_layers;
  for (const FormatRule& rule : variant.formats) {
    all.push_back(rule.format);
    if (FormatOf(rule.format).bits < 16) quantized.push_back(rule.format);
    if (rule.pattern != "lm_head" && rule.pattern != "embed") of_layers.push_back(rule.format);
  }
  if (variant.activations == Activations::kBF16) return of_layers;
  return quantized.empty() ? all : quantized;
}

constexpr absl::string_view kInt8KvSuffix = "+kv8";

// Takes the suffix of activations off the end of `name`; false where none stands there.
bool ConsumeActivations(absl::string_view* name, Activations* activations) {
  for (const ActivationsTraits& traits : kActivations) {
    const absl::string_view suffix = traits.suffix;
    if (suffix.empty() || !absl::ConsumeSuffix(name, suffix)) continue;
    *activations = traits.activations;
    return true;
  }
  return false;
}

// "+a8, int8 activations, or .."
std::string SuffixesOfActivations() {
  std::vector<std::string> known;
  for (const ActivationsTraits& traits : kActivations) {
    if (traits.suffix[0] != 0) known.push_back(absl::StrCat(traits.suffix, ", ", traits.meaning));
  }
  return absl::StrJoin(known, ", or ");
}

// INVALID_ARGUMENT naming the first variant that asks for what the backend lacks.
absl::Status CheckBackendHas(const std::vector<VariantSpec>& variants, const Backend& backend) {
  const auto lacks = [&](const VariantSpec& variant, const char* key, const char* value,
                         const std::string& known) {
    return InvalidField({absl::StrCat("variant ", variant.name, ": ", key), value,
                         absl::StrCat(known, " on this backend (", backend.Describe(), ")")});
  };
  for (const VariantSpec& variant : variants) {
    for (const FormatId format : MultipliedFormats(variant)) {
      if (backend.HasActivations(variant.activations, format)) continue;
      return lacks(variant, "activations", ActivationsName(variant.activations),
                   absl::StrCat("full with ", FormatOf(format).name, " weights"));
    }
    if (backend.HasKvType(variant.kv)) continue;
    std::vector<absl::string_view> known;
    for (const KvTypeTraits& traits : kKvTypes) {
      if (backend.HasKvType(traits.type)) known.push_back(traits.name);
    }
    return lacks(variant, "kv", KvTypeName(variant.kv),
                 absl::StrCat("one of ", absl::StrJoin(known, ", ")));
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<const Weight*> WeightsOf(const VariantWeights& variant) {
  std::set<const Weight*> weights = {variant.embed.table, variant.embed.positions,
                                     variant.lm_head.weight};
  for (const LayerWeights& layer : variant.layers) {
    for (const Linear* linear :
         {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down}) {
      weights.insert(linear->weight);
    }
  }
  weights.erase(nullptr);
  return {weights.begin(), weights.end()};
}

void AccountMemory(Model* model) {
  std::unordered_map<const Weight*, std::set<size_t>> users;
  std::set<size_t> everyone;
  std::vector<int64_t> own(model->variants.size()), shared(model->variants.size());
  for (size_t i = 0; i < model->variants.size(); ++i) {
    if (!model->variants[i].layers.empty()) everyone.insert(i);
    for (const Weight* weight : WeightsOf(model->variants[i])) users[weight].insert(i);
  }
  int64_t all_bytes = 0, shared_bytes = 0, vector_bytes = 0;
  const auto account = [&](int64_t bytes, const std::set<size_t>& variants) {
    all_bytes += bytes;
    if (variants.size() > 1) shared_bytes += bytes;
    for (const size_t i : variants) (variants.size() > 1 ? shared : own)[i] += bytes;
  };
  for (const auto& [name, vector] : model->vectors) {
    vector_bytes += vector->size * static_cast<int64_t>(sizeof(float));
  }
  account(vector_bytes, everyone);
  for (const auto& [weight, variants] : users) account(weight->bytes, variants);
  for (size_t i = 0; i < model->variants.size(); ++i) {
    Variant& variant = model->variants[i];
    const bool copied = model->config.tied_lm_head && variant.lm_head.weight != variant.embed.table;
    variant.tied_copy_bytes = copied ? variant.lm_head.weight->bytes : 0;
    variant.own_bytes = own[i];
    variant.shared_bytes = shared[i];
  }
  model->memory.weight_bytes = all_bytes;
  model->memory.shared_weight_bytes = shared_bytes;
}

VariantSpec DefaultVariant(FormatId format) {
  const QuantFormat& row = FormatOf(format);
  VariantSpec spec{.name = row.name};
  if (row.bits < 16) spec.formats = {{"lm_head", FormatId::kF16}, {"embed", FormatId::kF16}};
  spec.formats.push_back({"*", format});
  if (row.bits > 16) spec.kv = KvType::kF32;
  return spec;
}

absl::StatusOr<VariantSpec> ParseVariant(absl::string_view name) {
  absl::string_view format_name = name;
  bool int8_kv = false;
  Activations activations = Activations::kFull;
  while (true) {
    if (!int8_kv && absl::ConsumeSuffix(&format_name, kInt8KvSuffix)) {
      int8_kv = true;
    } else if (activations != Activations::kFull ||
               !ConsumeActivations(&format_name, &activations)) {
      break;
    }
  }
  const absl::StatusOr<FormatId> format = ParseFormat(format_name);
  if (!format.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(format.status().message(), "; behind it may stand ", kInt8KvSuffix,
                     ", an int8 KV cache, and ", SuffixesOfActivations()));
  }
  VariantSpec spec = DefaultVariant(*format);
  spec.name = std::string(name);
  if (int8_kv) spec.kv = KvType::kInt8;
  spec.activations = activations;
  return spec;
}

absl::Status CheckVariants(const std::vector<VariantSpec>& variants) {
  if (variants.empty()) return absl::InvalidArgumentError("a model needs at least one variant");
  std::set<std::string> names;
  for (const VariantSpec& variant : variants) {
    if (!IsVariantName(variant.name)) {
      return absl::InvalidArgumentError(
          absl::StrCat("variant name \"", variant.name,
                       "\": 1 to 63 of a-z, 0-9 and ._+-, beginning with a letter or digit"));
    }
    if (!names.insert(variant.name).second) {
      return absl::InvalidArgumentError(absl::StrCat("variant ", variant.name, " is there twice"));
    }
    if (variant.formats.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("variant ", variant.name, " has no format rule"));
    }
  }
  if (std::none_of(variants.begin(), variants.end(), [](const auto& v) { return v.at_start; })) {
    return absl::InvalidArgumentError("no variant is loaded at the start");
  }
  return absl::OkStatus();
}

const char* IntegrityName(Integrity integrity) {
  return integrity == Integrity::kManifest ? "manifest" : "structure only";
}

int Model::FindVariant(absl::string_view variant_name) const {
  for (size_t i = 0; i < variants.size(); ++i) {
    if (variants[i].name == variant_name) return static_cast<int>(i);
  }
  return -1;
}

absl::StatusOr<std::unique_ptr<Model>> LoadModel(const std::string& path, const std::string& name,
                                                 const std::vector<VariantSpec>& variants,
                                                 Backend* backend,
                                                 const LoadProgressFunction& progress) {
  const absl::StatusOr<std::unique_ptr<Checkpoint>> checkpoint = Checkpoint::Open(path);
  if (!checkpoint.ok()) return checkpoint.status();
  return LoadModelFrom(**checkpoint, name, variants, backend, progress);
}

absl::StatusOr<std::unique_ptr<Model>> LoadModelFrom(const Checkpoint& checkpoint,
                                                     const std::string& name,
                                                     const std::vector<VariantSpec>& variants,
                                                     Backend* backend,
                                                     const LoadProgressFunction& progress) {
  if (absl::Status status = CheckVariants(variants); !status.ok()) return status;
  if (absl::Status status = CheckBackendHas(variants, *backend); !status.ok()) return status;
  auto model = std::make_unique<Model>();
  model->name = name;
  model->source = checkpoint.source();
  model->source_is_quantized = checkpoint.source_is_quantized();
  model->config = checkpoint.config();
  model->tensors = checkpoint.tensors();
  model->memory.disk_bytes = checkpoint.disk_bytes();
  model->variants.resize(variants.size());
  std::vector<VariantWeights*> loaded;
  for (size_t i = 0; i < variants.size(); ++i) {
    Variant& variant = model->variants[i];
    variant.name = variants[i].name;
    variant.kv = variants[i].kv;
    variant.activations = variants[i].activations;
    variant.precision = variants[i].formats.back().format;
    variant.loaded = variants[i].at_start;
    loaded.push_back(variants[i].at_start ? &variant : nullptr);
  }
  // What is cheap to refuse comes before what takes long.
  if (absl::Status status = LoadText(checkpoint.tokenizer_source(), model.get()); !status.ok()) {
    return status;
  }
  absl::StatusOr<LoadPlan> plan = PlanLoad(checkpoint, variants, loaded);
  if (!plan.ok()) return plan.status();

  // Hashing is bound by one core, packing by memory: side by side. The future waits when it goes.
  std::future<absl::StatusOr<std::string>> sha256 =
      std::async(std::launch::async, [&checkpoint] { return checkpoint.WeightsSha256(); });
  if (absl::Status status = LoadTensors(checkpoint, *plan, backend, progress, model.get());
      !status.ok()) {
    return status;
  }
  if (absl::Status status = LoadRotary(backend, model.get()); !status.ok()) return status;
  absl::StatusOr<std::string> digest = sha256.get();
  if (!digest.ok()) return digest.status();
  model->weights_sha256 = *std::move(digest);
  if (absl::Status status = checkpoint.CheckUnchanged(); !status.ok()) return status;
  if (const Manifest* manifest = checkpoint.manifest(); manifest != nullptr) {
    model->integrity = Integrity::kManifest;
    model->golden = manifest->golden;
    model->golden_formats = manifest->golden_formats;
  }

  AccountMemory(model.get());
  for (Variant& variant : model->variants) {
    if (variant.loaded) variant.precision = PrecisionOf(variant);
  }
  return model;
}

}  // namespace vernier
