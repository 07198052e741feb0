// vernier chat: a conversation, with its history kept here.
#include <memory>
#include <random>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cli/call_error.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/display_text.h"
#include "cli/input.h"
#include "cli/interrupts.h"
#include "cli/json_output.h"
#include "cli/table.h"
#include "cli/token_table.h"
#include "engine/text/utf8.h"

namespace vernier::cli {
namespace {

constexpr char kHelp[] =
    "/variant NAME  go on in another precision    /reset  forget the history\n"
    "Ctrl-C         ends the reply                Ctrl-D  leaves\n";

// A conversation is one unit of an experiment: its turns go to one arm, also where nobody said who
// is asking.
std::string NewRoutingKey() {
  std::random_device random;
  std::string key = "chat-";
  for (int i = 0; i < 4; ++i) absl::StrAppend(&key, absl::Hex(random(), absl::kZeroPad8));
  return key;
}

class Conversation {
 public:
  Conversation(const CommandLine& command, const v1::Model& model, Connection* connection,
               const Terminal& terminal)
      : command_(command),
        model_(model),
        connection_(connection),
        terminal_(terminal),
        request_(command.chat.request),
        serving_(request_.variant()) {
    if (serving_.empty() && model.variants_size() > 0) serving_ = model.variants(0).name();
  }

  CommandResult Run() {
    if (const absl::Status status =
            FillTemplateInputs(command_.chat.template_inputs, terminal_, &inputs_);
        !status.ok()) {
      return ExplainInput(status);
    }
    Reset();
    if (terminal_.in_is_terminal) {
      Say(absl::StrCat(model_.name(), " (source: ", model_.source(), "), ", serving_,
                       "; /help tells more\n"));
    }
    std::string line;
    CommandResult result;
    for (;;) {
      if (terminal_.in_is_terminal) Say(absl::StrCat(serving_, "> "));
      if (!std::getline(*terminal_.in, line)) break;
      result = Take(MendUtf8(absl::StripAsciiWhitespace(line)));
      if (result.exit_code == kExitGood) continue;
      if (!terminal_.in_is_terminal) return result;  // a script has nobody who would look
      *terminal_.err << "vernier: " << result.error << std::endl;
    }
    if (terminal_.in_is_terminal) Say("\n");
    if (command_.json) *terminal_.out << JsonLine(ToJson(request_.chat()));
    return {};
  }

 private:
  void Say(const std::string& text) { *terminal_.err << Neutralize(text) << std::flush; }

  void Reset() {
    *request_.mutable_chat() = inputs_;
    if (!command_.chat.system.empty()) AddMessage("system", command_.chat.system);
  }

  void AddMessage(const std::string& role, const std::string& content) {
    v1::ChatMessage* message = request_.mutable_chat()->add_messages();
    message->set_role(role);
    message->set_content(content);
  }

  CommandResult Take(const std::string& line) {
    if (line.empty()) return {};
    if (line[0] != '/') return Ask(line);
    if (line == "/help") {
      Say(kHelp);
    } else if (line == "/reset") {
      Reset();
    } else if (absl::StartsWith(line, "/variant")) {
      return SetVariant(std::string(absl::StripAsciiWhitespace(line.substr(8))));
    } else {
      return {kExitUsage, absl::StrCat("there is no ", Neutralize(line), "; /help lists what is")};
    }
    return {};
  }

  CommandResult SetVariant(const std::string& name) {
    for (const v1::Variant& variant : model_.variants()) {
      if (variant.name() != name) continue;
      request_.set_variant(name);
      serving_ = name;
      return {};
    }
    const std::string served = absl::StrJoin(
        model_.variants(), ", ",
        [](std::string* out, const v1::Variant& variant) { out->append(variant.name()); });
    return {kExitBadInput, Neutralize(absl::StrCat("served are ", served, ", not '", name, "'"))};
  }

  // One reply. What was written before a cancellation stays in the history; a turn that failed is
  // forgotten.
  CommandResult Ask(const std::string& line) {
    AddMessage("user", line);
    const auto context = std::make_shared<grpc::ClientContext>();
    connection_->Prepare(context.get());
    interrupts_.SetCall(context);
    const auto reader = connection_->inference()->GenerateStream(context.get(), request_);
    std::string text;
    v1::ServedBy served;
    v1::Finish finish;
    v1::GenerateStreamResponse message;
    while (reader->Read(&message)) {
      if (message.has_start()) served = message.start().served_by();
      if (message.has_finish()) finish = message.finish();
      if (message.has_delta()) {
        text += message.delta().text();
        Show(message.delta().text());
      }
    }
    const grpc::Status status = reader->Finish();
    interrupts_.SetCall(nullptr);
    Show("\n");
    const bool cancelled = status.error_code() == grpc::StatusCode::CANCELLED;
    if (!status.ok() && !(cancelled && !text.empty())) {
      request_.mutable_chat()->mutable_messages()->RemoveLast();
      return cancelled ? CommandResult{} : connection_->Failure(status);
    }
    AddMessage("assistant", text);
    if (!served.variant().empty()) serving_ = served.variant();
    if (terminal_.in_is_terminal) SayHowItEnded(served, finish, cancelled);
    return {};
  }

  void SayHowItEnded(const v1::ServedBy& served, const v1::Finish& finish, bool cancelled) {
    const std::string ending =
        cancelled
            ? "ended"
            : absl::StrCat(v1::FinishReason_Name(finish.finish_reason()), ", ",
                           FormatNumber(finish.timings().tokens_per_second(), 1), " tokens/s");
    Say(absl::StrCat("[", ending, ExperimentText(served), "]\n"));
  }

  void Show(const std::string& text) {
    if (command_.json) return;
    *terminal_.out << (terminal_.out_is_terminal ? Neutralize(text) : text) << std::flush;
  }

  const CommandLine& command_;
  const v1::Model& model_;
  Connection* const connection_;
  const Terminal& terminal_;
  v1::Chat inputs_;              // without messages: tools and template arguments
  v1::GenerateRequest request_;  // holds the history; its variant only where the user named one
  std::string serving_;          // the variant that answered last, or will
  Interrupts interrupts_;
};

}  // namespace

CommandResult Chat(const CommandLine& command, Connection* connection, const Terminal& terminal) {
  v1::Model model;
  const grpc::Status status = connection->GetModel(&model);
  if (!status.ok()) return connection->Failure(status);
  if (!model.has_chat_template()) {
    return {kExitOther,
            Neutralize(absl::StrCat(model.name(), " cannot chat (", model.no_chat_reason(),
                                    "); `vernier generate --raw` continues a text"))};
  }
  if (command.routing_key.empty()) connection->set_routing_key(NewRoutingKey());
  return Conversation(command, model, connection, terminal).Run();
}

}  // namespace vernier::cli
