// vernier compare: one prompt through several precisions.
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/compare_json.h"
#include "cli/compare_report.h"
#include "cli/connection.h"
#include "cli/display_text.h"
#include "cli/input.h"
#include "cli/json_output.h"

namespace vernier::cli {
namespace {

constexpr char kEraseLine[] = "\r\x1b[K";

// One line on a terminal that says how far each variant is.
class Progress {
 public:
  Progress(std::ostream* err, bool shown, int columns)
      : err_(err), shown_(shown), columns_(columns) {}
  ~Progress() {
    if (shown_) *err_ << kEraseLine << std::flush;
  }

  void Add(const v1::CompareStreamResponse::VariantDelta& delta) {
    tokens_[{delta.is_control(), delta.variant()}] += delta.delta().token_ids_size();
    if (!shown_) return;
    std::string line = "tokens:";
    for (const auto& [key, tokens] : tokens_) {
      absl::StrAppend(&line, "  ", key.second, key.first ? " (control) " : " ", tokens);
    }
    line = Neutralize(line);
    if (DisplayWidth(line) < columns_) *err_ << kEraseLine << line << std::flush;
  }

 private:
  std::ostream* const err_;
  const bool shown_;
  const int columns_;
  std::map<std::pair<bool, std::string>, int64_t> tokens_;
};

grpc::Status ReadSummary(const v1::CompareRequest& request, Connection* connection,
                         Progress* progress, v1::CompareResponse* summary) {
  grpc::ClientContext context;
  connection->Prepare(&context);
  const auto reader = connection->evaluation()->CompareStream(&context, request);
  v1::CompareStreamResponse message;
  bool complete = false;
  while (reader->Read(&message)) {
    if (message.has_delta()) progress->Add(message.delta());
    if (message.has_summary()) {
      *summary = std::move(*message.mutable_summary());
      complete = true;
    }
  }
  const grpc::Status status = reader->Finish();
  if (status.ok() && !complete) {
    return {grpc::StatusCode::INTERNAL, "the stream ended without its summary"};
  }
  return status;
}

}  // namespace

CommandResult Compare(const CommandLine& command, Connection* connection,
                      const Terminal& terminal) {
  const CompareOptions& options = command.compare;
  v1::Model model;
  grpc::Status status = connection->GetModel(&model);
  if (!status.ok()) return connection->Failure(status);
  v1::CompareRequest request = options.request;
  if (absl::Status input =
          FillInput(options.prompt, model.has_chat_template(), terminal, request.mutable_base());
      !input.ok()) {
    return ExplainInput(input);
  }
  v1::CompareResponse reply;
  {
    Progress progress(terminal.err, terminal.err_is_terminal && !command.json,
                      terminal.canvas.columns);
    status = ReadSummary(request, connection, &progress, &reply);
  }
  if (!status.ok()) return connection->Failure(status);
  if (command.json) {
    *terminal.out << JsonLine(CompareJson(reply));
  } else {
    *terminal.out << RenderCompare(reply, {terminal.canvas, request.timing() == v1::SERIAL});
  }
  terminal.out->flush();
  for (const v1::VariantResult& result : reply.results()) {
    if (result.status_code() != 0) {
      return {kExitOther, Neutralize(absl::StrCat(result.served_by().variant(),
                                                  " failed: ", result.status_message()))};
    }
  }
  return {};
}

}  // namespace vernier::cli
