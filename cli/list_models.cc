// vernier models: what is served.
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/json_output.h"
#include "cli/models_report.h"

namespace vernier::cli {

CommandResult ListModels(const CommandLine& command, Connection* connection,
                         const Terminal& terminal) {
  grpc::ClientContext context;
  connection->Prepare(&context);
  v1::ListModelsResponse reply;
  const grpc::Status status =
      connection->models()->ListModels(&context, v1::ListModelsRequest(), &reply);
  if (!status.ok()) return connection->Failure(status);
  if (command.json) {
    *terminal.out << JsonLine(ToJson(reply));
    return {};
  }
  for (int i = 0; i < reply.models_size(); ++i) {
    *terminal.out << (i > 0 ? "\n" : "") << RenderModel(reply.models(i));
  }
  return {};
}

}  // namespace vernier::cli
