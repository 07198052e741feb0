#include "cli/manifest_file.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/clock.h"
#include "engine/engine.h"
#include "engine/golden.h"
#include "engine/model/model.h"
#include "kernels/make_backend.h"

namespace vernier::cli {
namespace {

constexpr int64_t kGoldenTokens = 32;
constexpr char kGoldenText[] = "Once upon a time, there was a";
constexpr int32_t kGoldenIds = 8;  // where there is no tokenizer: 0 to 7

absl::StatusOr<std::vector<int32_t>> PromptOf(const Model& model) {
  if (model.tokenizer != nullptr) {
    return model.tokenizer->Encode(kGoldenText, Tokenizer::Special::kAsText,
                                   Tokenizer::Begin::kAsConfigured);
  }
  std::vector<int32_t> ids(static_cast<size_t>(std::min<int64_t>(kGoldenIds, model.config.vocab)));
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

// What full precision and each quantized format draw; FAILED_PRECONDITION where the former has no
// token that leads by enough. A format that has none is left out.
absl::Status Record(const Checkpoint& checkpoint, Manifest* manifest) {
  auto backend = MakeBackend({.kind = "cpu"});
  if (!backend.ok()) return backend.status();
  std::vector<VariantSpec> variants = {DefaultVariant(FormatId::kF32)};
  for (const QuantFormat& format : QuantFormats()) {
    if (format.bits < 16) variants.push_back(DefaultVariant(format.id));
  }
  const auto model = LoadModelFrom(checkpoint, "golden", variants, backend->get(), nullptr);
  if (!model.ok()) return model.status();
  EngineOptions options;
  options.max_sequences = 1;
  options.kv_blocks = 2 * 4 * kGoldenTokens / kBlockTokens;
  options.max_context = std::min<int64_t>((*model)->config.context, 4 * kGoldenTokens);
  const auto engine =
      Engine::Create(options, model->get(), backend->get(), nullptr, &SteadyClock());
  if (!engine.ok()) return engine.status();
  const absl::StatusOr<std::vector<int32_t>> prompt = PromptOf(**model);
  if (!prompt.ok()) return prompt.status();
  const int64_t room = (*engine)->max_context() - static_cast<int64_t>(prompt->size());
  for (size_t i = 0; i < variants.size(); ++i) {
    absl::StatusOr<GoldenTokens> tokens = RecordGolden(engine->get(), **model, static_cast<int>(i),
                                                       *prompt, std::min(kGoldenTokens, room));
    if (i > 0 && absl::IsFailedPrecondition(tokens.status())) continue;
    if (!tokens.ok()) return tokens.status();
    if (i == 0) {
      manifest->golden = *std::move(tokens);
    } else {
      manifest->golden_formats[variants[i].formats.back().format] = *std::move(tokens);
    }
  }
  return absl::OkStatus();
}

// Through a file beside it, so that none is ever half written.
absl::Status ReplaceFile(const std::string& path, const std::string& text) {
  const std::string fresh = path + ".new";
  std::ofstream out(fresh, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (!out) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", fresh));
  std::error_code error;
  std::filesystem::rename(fresh, path, error);
  if (!error) return absl::OkStatus();
  std::remove(fresh.c_str());
  return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot write ", path));
}

}  // namespace

absl::StatusOr<std::string> WriteManifest(const std::string& model, const Checkpoint& checkpoint,
                                          Golden golden) {
  absl::StatusOr<Manifest> manifest = checkpoint.MakeManifest();
  if (!manifest.ok()) return manifest.status();
  if (golden == Golden::kRecord) {
    if (absl::Status status = Record(checkpoint, &*manifest); !status.ok()) return status;
  }
  std::error_code error;
  const std::string path = std::filesystem::is_directory(model, error) ? ManifestPathOfFolder(model)
                                                                       : ManifestPathOfFile(model);
  if (absl::Status status = ReplaceFile(path, RenderManifest(*manifest)); !status.ok()) {
    return status;
  }
  return path;
}

}  // namespace vernier::cli
