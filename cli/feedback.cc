// vernier feedback: what became of one answer.
#include <string>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/display_text.h"
#include "cli/experiment_input.h"
#include "cli/json_output.h"

namespace vernier::cli {
namespace {

std::string Outcome(const v1::FeedbackResponse& reply) {
  if (reply.orphans() > 0) return "kept, though the server does not know that exposure yet\n";
  return reply.duplicates() > 0 ? "known already\n" : "accepted\n";
}

}  // namespace

CommandResult Feedback(const CommandLine& command, Connection* connection,
                       const Terminal& terminal) {
  const FeedbackOptions& options = command.feedback;
  v1::FeedbackEvent event = options.event;
  if (options.value && options.text) {
    event.set_text(*options.value);
  } else if (options.value) {
    SetFeedbackValue(*options.value, &event);
  } else if (!event.has_preference()) {
    return {kExitUsage, "feedback needs a VALUE, or --over EXPOSURE"};
  }
  grpc::ClientContext context;
  connection->Prepare(&context);
  v1::FeedbackResponse reply;
  const auto writer = connection->inference()->Feedback(&context, &reply);
  writer->Write(event);  // a server that has refused already says so at the end
  writer->WritesDone();
  if (const grpc::Status status = writer->Finish(); !status.ok())
    return connection->Failure(status);
  if (command.json) *terminal.out << JsonLine(ToJson(reply));
  if (reply.refused() > 0) {
    const std::string reason =
        reply.failures_size() > 0 ? reply.failures(0).reason() : "no reason given";
    return {kExitBadInput, Neutralize(absl::StrCat("refused: ", reason))};
  }
  if (!command.json) *terminal.out << Outcome(reply);
  return {};
}

}  // namespace vernier::cli
