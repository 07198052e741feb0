#include "engine/checkpoint/tokenizer_file.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/checkpoint/gguf.h"
#include "engine/checkpoint/gguf_text.h"
#include "engine/checkpoint/hf_text.h"
#include "engine/checkpoint/random_access_file.h"

namespace vernier {
namespace {

// What is looked at to know the file: a tokenizer.json has its brace within.
constexpr int64_t kPeekedBytes = 64;

// The first byte of SentencePiece's ModelProto: field 1 (pieces), length-delimited.
constexpr char kPiecesField = '\n';

absl::StatusOr<TokenizerSource> ReadGguf(const RandomAccessFile& file) {
  absl::StatusOr<GgufHeader> header = ReadGgufHeader(file);
  if (!header.ok()) return header.status();
  return TakeGgufText(file.path(), &*header);
}

absl::StatusOr<TokenizerSource> ReadFile(const std::string& path) {
  const absl::StatusOr<std::shared_ptr<const RandomAccessFile>> file = RandomAccessFile::Open(path);
  if (!file.ok()) return file.status();
  std::string start(static_cast<size_t>(std::min((*file)->size(), kPeekedBytes)), '\0');
  const absl::Status read =
      (*file)->Read(0, {reinterpret_cast<uint8_t*>(start.data()), start.size()});
  if (!read.ok()) return read;
  if (absl::StartsWith(start, "GGUF")) return ReadGguf(**file);

  // White space may come before JSON, and a line feed is also how a tokenizer.model begins.
  const size_t first = start.find_first_not_of(" \t\r\n");
  const bool json = first != std::string::npos && start[first] == '{';
  if (!json && (start.empty() || start[0] != kPiecesField)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path,
                     " is neither a model folder, a GGUF file, a tokenizer.json nor a "
                     "SentencePiece tokenizer.model"));
  }
  absl::StatusOr<std::string> bytes = ReadWholeFile(path, kMaxTokenizerBytes);
  if (!bytes.ok()) return bytes.status();
  TokenizerSource source;
  source.kind = json ? TokenizerSource::Kind::kHuggingFace : TokenizerSource::Kind::kSentencePiece;
  (json ? source.tokenizer_json : source.sentencepiece_model) = *std::move(bytes);
  return source;
}

}  // namespace

absl::StatusOr<TokenizerSource> OpenTokenizerSource(const std::string& path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (std::filesystem::is_directory(status)) return ReadHfText(path);
  if (!std::filesystem::exists(status)) {
    return absl::NotFoundError(absl::StrCat("no model or tokenizer at ", path));
  }
  return ReadFile(path);
}

}  // namespace vernier
