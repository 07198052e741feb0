// vernier generate: one prompt, one precision, streamed.
#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/display_text.h"
#include "cli/input.h"
#include "cli/json_output.h"
#include "cli/stream_printer.h"
#include "cli/table.h"
#include "cli/token_table.h"

namespace vernier::cli {
namespace {

CommandResult GenerateJson(const v1::GenerateRequest& request, Connection* connection,
                           const Terminal& terminal) {
  grpc::ClientContext context;
  connection->Prepare(&context);
  v1::GenerateResponse reply;
  const grpc::Status status = connection->inference()->Generate(&context, request, &reply);
  if (!status.ok()) return connection->Failure(status);
  *terminal.out << JsonLine(ToJson(reply));
  return {};
}

// What a stream leaves behind besides its text.
struct Remains {
  v1::ServedBy served_by;
  std::vector<v1::Finish> finishes;
  google::protobuf::RepeatedPtrField<v1::TokenDetail> prompt_tokens;
  uint32_t first_prompt_position = 1;
  std::map<uint32_t, google::protobuf::RepeatedPtrField<v1::TokenDetail>> tokens;  // by sample
};

void Take(const v1::GenerateStreamResponse& message, StreamPrinter* printer, Remains* remains) {
  switch (message.event_case()) {
    case v1::GenerateStreamResponse::kStart:
      remains->served_by = message.start().served_by();
      break;
    case v1::GenerateStreamResponse::kDelta:
      printer->Add(message.delta());
      if (message.delta().logprobs_size() > 0) {
        remains->tokens[message.delta().index()].MergeFrom(message.delta().logprobs());
      }
      break;
    case v1::GenerateStreamResponse::kFinish:
      printer->Finish(message.finish());
      remains->finishes.push_back(message.finish());
      break;
    case v1::GenerateStreamResponse::kPromptLogprobs:
      if (remains->prompt_tokens.empty()) {
        remains->first_prompt_position = message.prompt_logprobs().first_position();
      }
      remains->prompt_tokens.MergeFrom(message.prompt_logprobs().tokens());
      break;
    case v1::GenerateStreamResponse::EVENT_NOT_SET:
      break;
  }
}

void PrintTokens(const Remains& remains, std::ostream* out) {
  if (!remains.prompt_tokens.empty()) {
    *out << "\nPrompt\n"
         << RenderTokens(remains.prompt_tokens, [&](int i) {
              return uint64_t{remains.first_prompt_position} + static_cast<uint64_t>(i);
            });
  }
  for (const auto& [index, tokens] : remains.tokens) {
    *out << (remains.tokens.size() > 1 ? absl::StrCat("\nSample ", index, "\n") : "\n")
         << RenderTokens(tokens, [](int i) { return static_cast<uint64_t>(i); });
  }
}

std::string Ending(const v1::Finish& finish) {
  return absl::StrCat(finish.usage().prompt_tokens(), " + ", finish.usage().completion_tokens(),
                      " tokens, ", v1::FinishReason_Name(finish.finish_reason()), "; first token ",
                      FormatSeconds(finish.timings().time_to_first_token_seconds()), ", ",
                      FormatNumber(finish.timings().tokens_per_second(), 1), " tokens/s");
}

void PrintEnding(const Remains& remains, const Terminal& terminal) {
  const v1::ServedBy& served = remains.served_by;
  std::string text = absl::StrCat("[", ServedByText(served), ", seed ", served.seed(), "]\n");
  for (const v1::Finish& finish : remains.finishes) {
    absl::StrAppend(
        &text, "[",
        remains.finishes.size() > 1 ? absl::StrCat("sample ", finish.index(), ": ") : "",
        Ending(finish), "]\n");
  }
  *terminal.err << Neutralize(text) << std::flush;
}

CommandResult GenerateText(const GenerateOptions& options, const v1::GenerateRequest& request,
                           bool ids, Connection* connection, const Terminal& terminal) {
  grpc::ClientContext context;
  connection->Prepare(&context);
  const auto reader = connection->inference()->GenerateStream(&context, request);
  const int samples = request.sampling().has_n()
                          ? static_cast<int>(std::min<uint32_t>(request.sampling().n(), 64))
                          : 1;
  StreamPrinter printer(terminal.out, samples,
                        {.neutralize = terminal.out_is_terminal, .ids = ids});
  Remains remains;
  v1::GenerateStreamResponse message;
  while (reader->Read(&message)) Take(message, &printer, &remains);
  const grpc::Status status = reader->Finish();
  if (!status.ok()) {
    if (remains.served_by.ByteSizeLong() > 0) *terminal.out << std::endl;  // the text broke off
    return connection->Failure(status);
  }
  PrintTokens(remains, terminal.out);
  terminal.out->flush();
  if (!options.quiet) PrintEnding(remains, terminal);
  return {};
}

}  // namespace

CommandResult Generate(const CommandLine& command, Connection* connection,
                       const Terminal& terminal) {
  const GenerateOptions& options = command.generate;
  v1::Model model;
  const grpc::Status status = connection->GetModel(&model);
  if (!status.ok()) return connection->Failure(status);
  v1::GenerateRequest request = options.request;
  if (absl::Status input = FillInput(options.prompt, model.has_chat_template(), terminal, &request);
      !input.ok()) {
    return ExplainInput(input);
  }
  if (command.json) return GenerateJson(request, connection, terminal);
  return GenerateText(options, request, !model.has_tokenizer(), connection, terminal);
}

}  // namespace vernier::cli
