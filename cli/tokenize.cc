// vernier tokenize: ids and pieces of a text, from a model's or a tokenizer's files.
#include "absl/strings/str_cat.h"
#include "cli/call_error.h"
#include "cli/input.h"
#include "cli/json_output.h"
#include "cli/offline.h"
#include "cli/table.h"
#include "cli/token_table.h"
#include "engine/checkpoint/tokenizer_file.h"
#include "engine/text/tokenizer.h"

namespace vernier::cli {
namespace {

std::string RenderPieces(const v1::TokenizeResponse& reply) {
  Table table;
  table.header = {"position", "id", "token"};
  table.left_aligned = 0;
  table.texts_from = 2;
  for (int i = 0; i < reply.token_ids_size(); ++i) {
    table.rows.push_back(
        {absl::StrCat(i), absl::StrCat(reply.token_ids(i)), QuotePiece(reply.tokens(i))});
  }
  return absl::StrCat(RenderTable(table), "\n", reply.token_ids_size(), " tokens\n");
}

}  // namespace

CommandResult Tokenize(const CommandLine& command, const Terminal& terminal) {
  const TokenizeOptions& options = command.tokenize;
  const auto source = OpenTokenizerSource(options.model);
  if (!source.ok()) return ExplainInput(source.status());
  const auto tokenizer = Tokenizer::Create(*source);
  if (!tokenizer.ok()) {
    return ExplainInput(
        absl::Status(tokenizer.status().code(),
                     absl::StrCat(options.model, ": ", tokenizer.status().message())));
  }
  const auto text = TextOrFile(options.text, options.file, terminal);
  if (!text.ok()) return ExplainInput(text.status());
  const auto ids =
      (*tokenizer)
          ->Encode(*text,
                   options.recognise_special ? Tokenizer::Special::kRecognise
                                             : Tokenizer::Special::kAsText,
                   options.add_begin ? Tokenizer::Begin::kAsConfigured : Tokenizer::Begin::kNever);
  if (!ids.ok()) return ExplainInput(ids.status());
  v1::TokenizeResponse reply;
  for (const int32_t id : *ids) {
    reply.add_token_ids(static_cast<uint32_t>(id));
    reply.add_tokens((*tokenizer)->TokenBytes(id, /*special_as_text=*/true));
  }
  *terminal.out << (command.json ? JsonLine(ToJson(reply)) : RenderPieces(reply));
  return {};
}

}  // namespace vernier::cli
