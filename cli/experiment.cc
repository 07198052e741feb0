// vernier experiment: precisions against each other on live traffic, over the admin listener.
#include <poll.h>

#include <string>

#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/experiment_export.h"
#include "cli/experiment_input.h"
#include "cli/experiment_report.h"
#include "cli/input.h"
#include "cli/json_output.h"

namespace vernier::cli {
namespace {

constexpr char kClearScreen[] = "\x1b[2J\x1b[H";

// What an action needs of the command.
struct Call {
  const CommandLine& command;
  const ExperimentOptions& options;
  Connection* connection;
  const Terminal& terminal;
};

template <typename Request, typename Reply>
grpc::Status Ask(const Call& call,
                 grpc::Status (v1::Experiments::Stub::*method)(grpc::ClientContext*, const Request&,
                                                               Reply*),
                 const Request& request, Reply* reply) {
  grpc::ClientContext context;
  call.connection->Prepare(&context);
  return (call.connection->experiments()->*method)(&context, request, reply);
}

CommandResult Print(const Call& call, const google::protobuf::Message& reply,
                    const std::string& text) {
  *call.terminal.out << (call.command.json ? JsonLine(ToJson(reply)) : text);
  return {};
}

CommandResult Put(const Call& call, const absl::StatusOr<v1::Experiment>& experiment) {
  if (!experiment.ok()) return ExplainInput(experiment.status());
  v1::PutExperimentRequest request;
  *request.mutable_experiment() = *experiment;
  v1::Experiment reply;
  const grpc::Status status = Ask(call, &v1::Experiments::Stub::Put, request, &reply);
  if (!status.ok()) return call.connection->Failure(status);
  return Print(call, reply, ExperimentSummary(reply));
}

CommandResult PutFile(const Call& call) {
  const absl::StatusOr<std::string> text = ReadText(call.options.file, call.terminal);
  if (!text.ok()) return ExplainInput(text.status());
  return Put(call, ParseExperiment(
                       *text, call.options.file == "-" ? "standard input" : call.options.file));
}

CommandResult List(const Call& call) {
  v1::ListExperimentsResponse reply;
  const grpc::Status status =
      Ask(call, &v1::Experiments::Stub::List, v1::ListExperimentsRequest(), &reply);
  if (!status.ok()) return call.connection->Failure(status);
  return Print(call, reply, RenderExperiments(reply, call.terminal.canvas));
}

bool IsOver(v1::Experiment::State state) {
  return state == v1::Experiment::PROMOTED || state == v1::Experiment::ROLLED_BACK ||
         state == v1::Experiment::STOPPED;
}

void Show(const Call& call, const v1::ExperimentReport& report) {
  if (call.command.json) {
    *call.terminal.out << JsonLine(ReportJson(report)) << std::flush;
    return;
  }
  const bool redraws = call.options.watch && call.terminal.out_is_terminal;
  *call.terminal.out << (redraws ? kClearScreen : "")
                     << RenderExperiment(report, call.terminal.canvas) << std::flush;
}

// One look, or with --watch one each so many seconds until the experiment is over; Ctrl-C ends that
// as it ends any command.
CommandResult Status(const Call& call) {
  for (;;) {
    v1::ExperimentReport report;
    const grpc::Status status = Ask(call, &v1::Experiments::Stub::Get, call.options.get, &report);
    if (!status.ok()) return call.connection->Failure(status);
    Show(call, report);
    if (!call.options.watch || IsOver(report.experiment().state())) return {};
    if (!call.terminal.out_is_terminal && !call.command.json) *call.terminal.out << "\n";
    poll(nullptr, 0, static_cast<int>(call.options.every_seconds * 1000));
  }
}

CommandResult Control(const Call& call) {
  v1::Experiment reply;
  const grpc::Status status =
      Ask(call, &v1::Experiments::Stub::Control, call.options.control, &reply);
  if (!status.ok()) return call.connection->Failure(status);
  return Print(call, reply, ExperimentSummary(reply));
}

CommandResult ExplainUnit(const Call& call) {
  v1::ExplainAssignmentResponse reply;
  const grpc::Status status =
      Ask(call, &v1::Experiments::Stub::ExplainAssignment, call.options.explain, &reply);
  if (!status.ok()) return call.connection->Failure(status);
  return Print(call, reply, RenderExplanation(reply, call.terminal.canvas));
}

CommandResult Export(const Call& call) {
  v1::ExperimentReport report;
  const grpc::Status status = Ask(call, &v1::Experiments::Stub::Get, call.options.get, &report);
  if (!status.ok()) return call.connection->Failure(status);
  *call.terminal.out << (call.options.csv ? ReportCsv(report) : JsonLine(ReportJson(report)));
  return {};
}

}  // namespace

CommandResult Experiment(const CommandLine& command, Connection* connection,
                         const Terminal& terminal) {
  const Call call{command, command.experiment, connection, terminal};
  switch (command.experiment.action) {
    case ExperimentOptions::Action::kPut:
      return PutFile(call);
    case ExperimentOptions::Action::kCreate:
      return Put(call, QuickExperiment(command.experiment.create));
    case ExperimentOptions::Action::kStatus:
      return Status(call);
    case ExperimentOptions::Action::kControl:
      return Control(call);
    case ExperimentOptions::Action::kExplain:
      return ExplainUnit(call);
    case ExperimentOptions::Action::kExport:
      return Export(call);
    default:
      return List(call);
  }
}

}  // namespace vernier::cli
