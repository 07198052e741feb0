#include "engine/model/model.h"

#include <array>
#include <chrono>
#include <future>
#include <set>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/model/load_plan.h"
#include "kernels/base/check.h"
#include "kernels/base/log.h"

namespace vernier {
namespace {

using ProgressFunction = std::function<bool(const LoadProgress&)>;

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

// Counts tensors and asks whether to go on.
class ProgressCounter {
 public:
  ProgressCounter(const Checkpoint& checkpoint, const LoadPlan& plan,
                  const ProgressFunction& report)
      : report_(report) {
    for (const TensorInfo& tensor : checkpoint.tensors()) bytes_of_[tensor.name] = tensor.bytes;
    progress_.tensors_total = static_cast<int64_t>(plan.matrices.size() + plan.vectors.size());
    for (const MatrixPlan& matrix : plan.matrices) progress_.bytes_total += bytes_of_[matrix.name];
    for (const VectorPlan& vector : plan.vectors) progress_.bytes_total += bytes_of_[vector.name];
  }
  absl::Status Report() const {
    if (report_ == nullptr || report_(progress_)) return absl::OkStatus();
    return absl::CancelledError(absl::StrCat("loading was cancelled after ", progress_.tensors_done,
                                             " of ", progress_.tensors_total, " tensors"));
  }
  absl::Status Done(const std::string& tensor) {
    ++progress_.tensors_done;
    progress_.bytes_done += bytes_of_[tensor];
    return Report();
  }

 private:
  const ProgressFunction& report_;
  std::unordered_map<std::string, int64_t> bytes_of_;
  LoadProgress progress_;
};

// Reads one tensor ahead of what is being packed, so that storage and processors work at once. The
// bytes of at most two tensors are in memory.
class MatrixReader {
 public:
  MatrixReader(const Checkpoint& checkpoint, const std::vector<MatrixPlan>& matrices)
      : checkpoint_(checkpoint), matrices_(matrices) {
    Begin();
  }
  // Of each matrix in turn.
  absl::StatusOr<WeightSource> Next() {
    absl::StatusOr<WeightSource> source = reading_.get();
    ++index_;
    Begin();
    return source;
  }

 private:
  void Begin() {
    if (index_ == matrices_.size()) return;
    reading_ = std::async(std::launch::async,
                          [this, i = index_] { return checkpoint_.OpenMatrix(matrices_[i].name); });
  }

  const Checkpoint& checkpoint_;
  const std::vector<MatrixPlan>& matrices_;
  size_t index_ = 0;
  std::future<absl::StatusOr<WeightSource>> reading_;  // waits when it goes
};

absl::Status LoadMatrix(const absl::StatusOr<WeightSource>& source, const MatrixPlan& plan,
                        Backend* backend, Model* model) {
  if (!source.ok()) return source.status();
  if (source->rows != plan.rows || source->cols != plan.cols) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", plan.name, " is [", source->rows,
                                                   ", ", source->cols, "], the config makes it [",
                                                   plan.rows, ", ", plan.cols, "]"));
  }
  absl::StatusOr<std::vector<Weight>> packed = backend->CreateWeights(*source, plan.formats);
  if (!packed.ok()) return packed.status();
  VERNIER_CHECK(packed->size() == plan.formats.size());
  const size_t first = model->weights.size();
  for (Weight& weight : *packed) {
    model->weights.push_back(std::make_unique<Weight>(std::move(weight)));
  }
  for (const MatrixPlan::Use& use : plan.uses) {
    *use.target = model->weights[first + use.format].get();
  }
  return absl::OkStatus();
}

absl::Status LoadVector(const Checkpoint& checkpoint, const VectorPlan& plan, Backend* backend,
                        Model* model) {
  const absl::StatusOr<std::vector<float>> values = checkpoint.ReadVector(plan.name);
  if (!values.ok()) return values.status();
  if (static_cast<int64_t>(values->size()) != plan.size) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", plan.name, " has ", values->size(),
                                                   " values, the config makes it ", plan.size));
  }
  absl::StatusOr<Vector> vector = backend->CreateVector(*values);
  if (!vector.ok()) return vector.status();
  model->vectors.push_back(std::make_unique<Vector>(*std::move(vector)));
  for (const Vector** target : plan.targets) *target = model->vectors.back().get();
  return absl::OkStatus();
}

absl::Status LoadTensors(const Checkpoint& checkpoint, const LoadPlan& plan, Backend* backend,
                         const ProgressFunction& report, Model* model) {
  using Clock = std::chrono::steady_clock;
  ProgressCounter progress(checkpoint, plan, report);
  if (absl::Status status = progress.Report(); !status.ok()) return status;
  MatrixReader reader(checkpoint, plan.matrices);
  for (const MatrixPlan& matrix : plan.matrices) {
    const Clock::time_point start = Clock::now();
    if (absl::Status status = LoadMatrix(reader.Next(), matrix, backend, model); !status.ok()) {
      return status;
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    for (const MatrixPlan::Use& use : matrix.uses) {
      model->variants[use.variant].load_seconds +=
          seconds / static_cast<double>(matrix.uses.size());
    }
    if (absl::Status status = progress.Done(matrix.name); !status.ok()) return status;
  }
  for (const VectorPlan& vector : plan.vectors) {
    if (absl::Status status = LoadVector(checkpoint, vector, backend, model); !status.ok()) {
      return status;
    }
    if (absl::Status status = progress.Done(vector.name); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status LoadRotary(Backend* backend, Model* model) {
  if (model->config.learned_positions) return absl::OkStatus();
  auto load = [&](const std::vector<float>& frequencies, Rotary* rotary) {
    absl::StatusOr<Vector> vector = backend->CreateVector(frequencies);
    if (!vector.ok()) return vector.status();
    model->vectors.push_back(std::make_unique<Vector>(*std::move(vector)));
    rotary->inverse_frequencies = model->vectors.back().get();
    return absl::OkStatus();
  };
  if (absl::Status status = load(model->config.inverse_frequencies, &model->rotary); !status.ok()) {
    return status;
  }
  model->window_rotary = model->rotary;
  if (model->config.window_inverse_frequencies.empty()) return absl::OkStatus();
  return load(model->config.window_inverse_frequencies, &model->window_rotary);
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

FormatId PrecisionOf(const Variant& variant) {
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

// Sums what each variant holds alone and what it shares. Vectors serve every variant.
void AccountMemory(const LoadPlan& plan, Model* model) {
  std::unordered_map<const Weight*, std::set<int>> users;
  for (const MatrixPlan& matrix : plan.matrices) {
    for (const MatrixPlan::Use& use : matrix.uses) users[*use.target].insert(use.variant);
  }
  int64_t vector_bytes = 0;
  for (const auto& vector : model->vectors) {
    vector_bytes += vector->size * static_cast<int64_t>(sizeof(float));
  }
  auto account = [&](int64_t bytes, const std::set<int>& variants) {
    const bool shared = variants.size() > 1;
    model->memory.weight_bytes += bytes;
    if (shared) model->memory.shared_weight_bytes += bytes;
    for (const int i : variants) {
      (shared ? model->variants[i].shared_bytes : model->variants[i].own_bytes) += bytes;
    }
  };
  std::set<int> everyone;
  for (size_t i = 0; i < model->variants.size(); ++i) everyone.insert(static_cast<int>(i));
  account(vector_bytes, everyone);
  for (const auto& [weight, variants] : users) account(weight->bytes, variants);
}

}  // namespace

VariantSpec DefaultVariant(FormatId format) {
  const QuantFormat& row = FormatOf(format);
  VariantSpec spec{.name = row.name};
  if (row.bits < 16) spec.formats = {{"lm_head", FormatId::kF16}, {"embed", FormatId::kF16}};
  spec.formats.push_back({"*", format});
  if (row.bits > 16) spec.kv = ScalarType::kF32;
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
                                                 const ProgressFunction& progress) {
  const absl::StatusOr<std::unique_ptr<Checkpoint>> checkpoint = Checkpoint::Open(path);
  if (!checkpoint.ok()) return checkpoint.status();
  return LoadModelFrom(**checkpoint, name, variants, backend, progress);
}

absl::StatusOr<std::unique_ptr<Model>> LoadModelFrom(const Checkpoint& checkpoint,
                                                     const std::string& name,
                                                     const std::vector<VariantSpec>& variants,
                                                     Backend* backend,
                                                     const ProgressFunction& progress) {
  if (absl::Status status = CheckVariants(variants); !status.ok()) return status;
  auto model = std::make_unique<Model>();
  model->name = name;
  model->source = checkpoint.source();
  model->source_is_quantized = checkpoint.source_is_quantized();
  model->config = checkpoint.config();
  model->memory.disk_bytes = checkpoint.disk_bytes();
  model->variants.resize(variants.size());
  for (size_t i = 0; i < variants.size(); ++i) {
    model->variants[i].name = variants[i].name;
    model->variants[i].kv = variants[i].kv;
  }
  // What is cheap to refuse comes before what takes long.
  if (absl::Status status = LoadText(checkpoint.tokenizer_source(), model.get()); !status.ok()) {
    return status;
  }
  absl::StatusOr<LoadPlan> plan = PlanLoad(checkpoint, variants, model.get());
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
  }

  AccountMemory(*plan, model.get());
  for (Variant& variant : model->variants) {
    variant.precision = PrecisionOf(variant);
    const bool copied = model->config.tied_lm_head && variant.lm_head.weight != variant.embed.table;
    if (copied) variant.tied_copy_bytes = variant.lm_head.weight->bytes;
  }
  return model;
}

}  // namespace vernier
