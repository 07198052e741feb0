// vernier load, unload, plan: which variants are in memory.
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/display_text.h"
#include "cli/json_output.h"
#include "cli/table.h"

namespace vernier::cli {
namespace {

template <typename Request>
Request RequestOf(const CommandLine& command) {
  Request request;
  request.set_variant(command.control_variant);
  return request;
}

void Print(const CommandLine& command, const google::protobuf::Message& reply,
           const std::string& text, const Terminal& terminal) {
  *terminal.out << (command.json ? JsonLine(ToJson(reply)) : Neutralize(text) + "\n");
}

}  // namespace

CommandResult LoadVariant(const CommandLine& command, Connection* connection,
                          const Terminal& terminal) {
  grpc::ClientContext context;
  connection->Prepare(&context);
  const auto reader =
      connection->control()->LoadVariant(&context, RequestOf<v1::LoadVariantRequest>(command));
  v1::LoadVariantProgress message;
  while (reader->Read(&message)) {
    if (terminal.out_is_terminal && !command.json) {
      *terminal.err << "\r" << message.tensors_done() << " of " << message.tensors_total()
                    << " tensors" << std::flush;
    }
  }
  if (terminal.out_is_terminal && !command.json) *terminal.err << "\n";
  const grpc::Status status = reader->Finish();
  if (!status.ok()) return connection->Failure(status);
  const v1::Variant& variant = message.variant();
  Print(command, message,
        absl::StrCat("loaded ", variant.name(), " (", variant.precision(), ") in ",
                     FormatSeconds(variant.load_seconds()), ": ",
                     FormatBytes(variant.memory().own_weight_bytes()), " of its own, ",
                     FormatBytes(variant.memory().shared_weight_bytes()), " shared"),
        terminal);
  return {};
}

CommandResult UnloadVariant(const CommandLine& command, Connection* connection,
                            const Terminal& terminal) {
  grpc::ClientContext context;
  connection->Prepare(&context);
  v1::UnloadVariantResponse reply;
  const grpc::Status status = connection->control()->UnloadVariant(
      &context, RequestOf<v1::UnloadVariantRequest>(command), &reply);
  if (!status.ok()) return connection->Failure(status);
  Print(command, reply,
        absl::StrCat("unloaded ", command.control_variant, ": ", FormatBytes(reply.freed_bytes()),
                     " freed"),
        terminal);
  return {};
}

CommandResult PlanMemory(const CommandLine& command, Connection* connection,
                         const Terminal& terminal) {
  grpc::ClientContext context;
  connection->Prepare(&context);
  v1::PlanMemoryResponse reply;
  const grpc::Status status = connection->control()->PlanMemory(
      &context, RequestOf<v1::PlanMemoryRequest>(command), &reply);
  if (!status.ok()) return connection->Failure(status);
  const std::string own = FormatBytes(reply.own_weight_bytes());
  Print(command, reply,
        reply.loaded()
            ? absl::StrCat(command.control_variant, " is loaded; unloading it frees ", own)
            : absl::StrCat(command.control_variant, " needs ", own, ", shares ",
                           FormatBytes(reply.shared_weight_bytes()), ", reads ",
                           FormatBytes(reply.read_bytes()), "; ",
                           FormatBytes(reply.available_bytes()), " are available",
                           reply.fits() ? "" : ": it does not fit"),
        terminal);
  return {};
}

}  // namespace vernier::cli
