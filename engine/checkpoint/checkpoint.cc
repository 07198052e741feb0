#include "engine/checkpoint/checkpoint.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/checkpoint/gguf_checkpoint.h"
#include "engine/checkpoint/hf_checkpoint.h"
#include "engine/checkpoint/random_checkpoint.h"

namespace vernier {

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(const std::string& path,
                                                             ManifestUse use) {
  absl::string_view random = path;
  if (absl::ConsumePrefix(&random, kRandomWeightsPrefix)) return OpenRandomCheckpoint(random);
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (std::filesystem::is_directory(status)) return OpenHfCheckpoint(path, use);
  if (!std::filesystem::exists(status)) {
    return absl::NotFoundError(absl::StrCat("no model at ", path));
  }
  if (absl::EndsWithIgnoreCase(path, ".gguf")) return OpenGgufCheckpoint(path, use);
  return absl::UnimplementedError(
      absl::StrCat(path, " is neither a folder with config.json nor a .gguf file"));
}

}  // namespace vernier
