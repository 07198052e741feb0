// vernier score: how probable a text is under one precision.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/display_text.h"
#include "cli/input.h"
#include "cli/json_output.h"
#include "cli/score_windows.h"
#include "cli/table.h"
#include "cli/token_table.h"

namespace vernier::cli {
namespace {

grpc::Status ScoreOnce(const v1::ScoreRequest& request, Connection* connection,
                       v1::ScoreResponse* reply) {
  grpc::ClientContext context;
  connection->Prepare(&context);
  return connection->inference()->Score(&context, request, reply);
}

// The tokens of the request's text, BOS included where the tokenizer says so.
grpc::Status TokensOf(const v1::ScoreRequest& request, Connection* connection,
                      std::vector<uint32_t>* ids) {
  if (request.has_token_ids()) {
    ids->assign(request.token_ids().ids().begin(), request.token_ids().ids().end());
    return grpc::Status::OK;
  }
  grpc::ClientContext context;
  connection->Prepare(&context);
  v1::TokenizeRequest tokenize;
  tokenize.set_text(request.text());
  v1::TokenizeResponse reply;
  const grpc::Status status = connection->inference()->Tokenize(&context, tokenize, &reply);
  ids->assign(reply.token_ids().begin(), reply.token_ids().end());
  return status;
}

grpc::Status ScoreInWindows(const v1::ScoreRequest& request, uint32_t stride,
                            Connection* connection, v1::ScoreResponse* sum) {
  std::vector<uint32_t> ids;
  grpc::Status status = TokensOf(request, connection, &ids);
  sum->mutable_token_ids()->Assign(ids.begin(), ids.end());
  const auto tokens = static_cast<uint32_t>(ids.size());
  for (const ScoreWindow& window : PlanWindows(tokens, request.window(), stride)) {
    if (!status.ok()) break;
    v1::ScoreRequest part = request;
    part.mutable_token_ids()->mutable_ids()->Assign(ids.begin() + window.first,
                                                    ids.begin() + window.first + window.count);
    v1::ScoreResponse reply;
    status = ScoreOnce(part, connection, &reply);
    if (status.ok()) AddWindow(window, reply, sum);
  }
  return status;
}

std::string Summary(const v1::ScoreResponse& reply) {
  const bool any = reply.scored_tokens() > 0;
  std::string out =
      absl::StrFormat("%d of %d tokens scored; sum %s nats; perplexity %s\n", reply.scored_tokens(),
                      reply.token_ids_size(), FormatNumber(reply.sum_logprob(), 4),
                      any ? FormatNumber(reply.perplexity(), 4) : kNotMeasured);
  absl::StrAppend(&out, "served by ", Neutralize(ServedByText(reply.served_by())), "\n");
  if (reply.truncated()) {
    out += "truncated: the text was longer than the context; --window N scores all of it\n";
  }
  return out;
}

absl::Status FillScoreInput(const ScoreOptions& options, const Terminal& terminal,
                            v1::ScoreRequest* request) {
  if (!options.ids.empty()) {
    request->mutable_token_ids()->mutable_ids()->Assign(options.ids.begin(), options.ids.end());
    return absl::OkStatus();
  }
  auto text = TextOrFile(options.text, options.file, terminal);
  if (!text.ok()) return text.status();
  if (text->empty()) return absl::InvalidArgumentError("there is no text to score");
  request->set_text(*std::move(text));
  return absl::OkStatus();
}

}  // namespace

CommandResult Score(const CommandLine& command, Connection* connection, const Terminal& terminal) {
  const ScoreOptions& options = command.score;
  v1::ScoreRequest request = options.request;
  if (options.stride > 0 && options.stride >= request.window()) {
    return {kExitUsage, absl::StrCat("--stride ", options.stride, " must be less than --window ",
                                     request.window())};
  }
  if (absl::Status input = FillScoreInput(options, terminal, &request); !input.ok()) {
    return ExplainInput(input);
  }
  v1::ScoreResponse reply;
  const grpc::Status status = options.stride > 0
                                  ? ScoreInWindows(request, options.stride, connection, &reply)
                                  : ScoreOnce(request, connection, &reply);
  if (!status.ok()) return connection->Failure(status);
  if (command.json) {
    *terminal.out << JsonLine(ToJson(reply));
    return {};
  }
  if (!options.summary) {
    *terminal.out << RenderTokens(reply.tokens(), [&](int i) -> uint64_t {
      return i < reply.positions_size() ? reply.positions(i) : 0;
    }) << "\n";
  }
  *terminal.out << Summary(reply);
  return {};
}

}  // namespace vernier::cli
