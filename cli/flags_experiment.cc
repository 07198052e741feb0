// Flags of `vernier experiment` and `vernier feedback`.
#include <cmath>
#include <map>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_split.h"
#include "cli/flags.h"

namespace vernier::cli {
namespace {

using Action = ExperimentOptions::Action;
using ControlAction = v1::ControlExperimentRequest;

constexpr char kReport[] = "Read the log again instead of what was added up as it was written";

CLI::App* Add(CLI::App* app, ExperimentOptions* options, Action action, const char* name,
              const char* text) {
  CLI::App* sub = app->add_subcommand(name, text);
  sub->fallthrough();
  sub->callback([=] { options->action = action; });
  return sub;
}

CLI::Option* DeclareId(CLI::App* app, std::string* id) {
  return app->add_option("ID", *id, "The experiment")->required()->type_name("");
}

void DeclareNames(CLI::App* app, const std::string& name, const std::string& text,
                  std::vector<std::string>* names) {
  app->add_option_function<std::string>(
         name, [=](const std::string& list) { *names = absl::StrSplit(list, ','); }, text)
      ->type_name("A,B,...");
}

// "1,5,10": numbers that are finite.
absl::StatusOr<std::vector<double>> Numbers(const std::string& list) {
  std::vector<double> numbers;
  for (const absl::string_view item : absl::StrSplit(list, ',')) {
    double number = 0;
    if (!absl::SimpleAtod(item, &number) || !std::isfinite(number)) {
      return absl::InvalidArgumentError(absl::StrCat("'", item, "' is no number"));
    }
    numbers.push_back(number);
  }
  return numbers;
}

void DeclareRamp(CLI::App* app, std::vector<double>* percent) {
  app->add_option_function<std::string>(
         "--ramp",
         [=](const std::string& list) {
           if (auto numbers = Numbers(list); numbers.ok()) *percent = *std::move(numbers);
         },
         "Steps, in percent of all units, that each arm but the control gets (default: the "
         "server's 1,5,10,25,50 for two arms)")
      ->check(CLI::Validator(
          [](std::string& list) { return std::string(Numbers(list).status().message()); }, ""))
      ->type_name("P,Q,...");
}

void DeclareUnit(CLI::App* app, v1::Experiment::Unit* unit) {
  static const std::map<std::string, v1::Experiment::Unit> kUnits = {
      {"request", v1::Experiment::REQUEST},
      {"session", v1::Experiment::SESSION},
      {"user", v1::Experiment::USER}};
  app->add_option_function<std::string>(
         "--unit", [=](const std::string& name) { *unit = kUnits.at(name); },
         "What keeps its arm: a request, a session (default) or a user, by x-vernier-routing-key")
      ->check(CLI::IsMember({"request", "session", "user"}))
      ->type_name("UNIT");
}

void DeclareCreate(CLI::App* app, QuickExperimentOptions* options) {
  DeclareId(app, &options->id)->description("Its name");
  DeclareNames(app, "--arms", "Variants, or NAME=VARIANT, of equal weights; of one variant: A/A",
               &options->arms);
  app->get_option("--arms")->required();
  app->add_option("--control", options->control,
                  "The arm that the others are compared with (default: the first)")
      ->type_name("ARM");
  DeclareRamp(app, &options->ramp_percent);
  DeclareUnit(app, &options->unit);
  CLI::Option* primary =
      app->add_option("--primary", options->primary,
                      "What decides: output_tokens, errors, mean_logprob, score_kl, score_top1 or "
                      "a metric of --feedback")
          ->type_name("METRIC");
  CLI::Option* margin = app->add_option("--margin", options->margin,
                                        "What a treatment may lose, in the metric's own unit")
                            ->check(CLI::PositiveNumber)
                            ->type_name("X");
  primary->needs(margin);
  margin->needs(primary);
  DeclareNames(app, "--feedback", "Metrics of yes and no that `vernier feedback` may send",
               &options->feedback);
  app->add_option("--shadow", options->shadow_share,
                  "Share of the control's requests that every other arm answers too, unseen, to "
                  "be scored")
      ->check(CLI::Range(0.0, 1.0))
      ->type_name("SHARE");
  app->footer(
      "\nExample:\n  vernier --server 127.0.0.1:50053 experiment create nf4-canary --arms fp16,nf4 "
      "\\\n      --feedback thumbs_up --primary thumbs_up --margin 0.02 --shadow 0.05\n\n"
      "It is a draft: `experiment start` sends traffic. What this has no flag for, `experiment "
      "put` has.");
}

void DeclareControl(CLI::App* app, ExperimentOptions* options) {
  const auto add = [&](const char* name, const char* text, ControlAction::Action action) {
    CLI::App* sub = app->add_subcommand(name, text);
    sub->fallthrough();
    sub->callback([=] {
      options->action = Action::kControl;
      options->control.set_action(action);
    });
    DeclareId(sub, options->control.mutable_id());
    sub->add_option("--reason", *options->control.mutable_reason(), "Why, for the record")
        ->type_name("TEXT");
    return sub;
  };
  add("start", "Assign arms", ControlAction::START);
  add("pause", "Assign none; units that had an arm are served as without it", ControlAction::PAUSE);
  CLI::App* ramp =
      add("ramp", "The next step: more units take part, none changes its arm", ControlAction::RAMP);
  DeclareCount<uint32_t>(ramp, "--step", "That step, from 0, instead of the next",
                         [=](uint32_t step) { options->control.set_step(step); })
      ->type_name("N");
  ramp->add_flag_callback(
      "--force", [=] { options->control.set_force(true); },
      "Although a gate or a guardrail holds it");
  add("promote", "Give everybody one arm", ControlAction::PROMOTE)
      ->add_option("--arm", *options->control.mutable_arm(),
                   "Which (default: the only one that is not the control)")
      ->type_name("ARM");
  add("rollback", "Serve everybody as without it, for good", ControlAction::ROLL_BACK);
  add("stop", "End it, by decision", ControlAction::STOP);
}

void DeclareStatus(CLI::App* app, ExperimentOptions* options) {
  DeclareId(app, options->get.mutable_id());
  app->add_flag_callback(
      "--rebuild", [=] { options->get.set_rebuild(true); }, kReport);
  CLI::Option* watch = app->add_flag("--watch", options->watch, "Draw it again until it is over");
  app->add_option("--every", options->every_seconds, "Seconds between two looks (default 2)")
      ->check(CLI::Range(0.001, 86400.0))
      ->needs(watch)
      ->type_name("SECONDS");
}

void DeclareExport(CLI::App* app, ExperimentOptions* options) {
  DeclareId(app, options->get.mutable_id());
  app->add_option_function<std::string>(
         "--format", [=](const std::string& name) { options->csv = name == "csv"; },
         "csv: one figure a line; json (default): the report as it is")
      ->check(CLI::IsMember({"csv", "json"}))
      ->type_name("FORMAT");
  app->add_flag_callback(
      "--rebuild", [=] { options->get.set_rebuild(true); }, kReport);
}

void DeclareExplain(CLI::App* app, v1::ExplainAssignmentRequest* request) {
  app->add_option("UNIT", *request->mutable_unit(), "As in x-vernier-routing-key")
      ->required()
      ->type_name("");
  app->add_option("--tenant", *request->mutable_tenant(), "Of the request")->type_name("NAME");
  DeclareCount<uint64_t>(app, "--prompt-tokens", "Of the request", [=](uint64_t tokens) {
    request->set_prompt_tokens(tokens);
  })->type_name("N");
}

}  // namespace

void DeclareRoutingKey(CLI::App* app, std::string* key) {
  app->add_option("--routing-key", *key,
                  "Who is asking (x-vernier-routing-key): experiments give one key one arm")
      ->check(HeaderValue())
      ->type_name("KEY");
}

void DeclareExperiment(CLI::App* app, ExperimentOptions* options) {
  app->require_subcommand(1);
  Add(app, options, Action::kPut, "put", "Make or replace one by its whole description")
      ->add_option("FILE", options->file,
                   "vernier.v1.Experiment as JSON, with the version that it replaces; '-': "
                   "standard input")
      ->required()
      ->type_name("");
  DeclareCreate(Add(app, options, Action::kCreate, "create", "Make one by a few flags"),
                &options->create);
  Add(app, options, Action::kList, "list", "All there are");
  DeclareStatus(Add(app, options, Action::kStatus, "status", "What one has shown so far"), options);
  DeclareControl(app, options);
  DeclareExplain(
      Add(app, options, Action::kExplain, "explain", "Which arm a unit has, and why; logs nothing"),
      &options->explain);
  DeclareExport(Add(app, options, Action::kExport, "export", "The report for other programs"),
                options);
  app->footer("\n`vernier experiment ACTION --help` tells more.");
}

void DeclareFeedback(CLI::App* app, FeedbackOptions* options) {
  v1::FeedbackEvent* event = &options->event;
  app->add_option("EXPOSURE", *event->mutable_exposure_id(),
                  "The answer, as `generate` and `chat` name it")
      ->required()
      ->type_name("");
  app->add_option("METRIC", *event->mutable_metric(), "One that the experiment declares")
      ->required()
      ->type_name("");
  CLI::Option* value = app->add_option_function<std::string>(
                              "VALUE", [=](const std::string& text) { options->value = text; },
                              "true, false, a number; anything else is text")
                           ->type_name("");
  app->add_flag("--text", options->text, "VALUE is text, whatever it looks like")->needs(value);
  CLI::Option* over =
      app->add_option_function<std::string>(
             "--over", [=](const std::string& id) { event->mutable_preference()->set_over(id); },
             "Instead of VALUE: this answer was liked less")
          ->excludes(value)
          ->type_name("EXPOSURE");
  app->add_flag_callback(
         "--tie", [=] { event->mutable_preference()->set_tie(true); }, "Neither was liked more")
      ->needs(over);
  app->add_option("--source", *event->mutable_source(), "Who says so")->type_name("NAME");
  app->add_option("--idempotency-key", *event->mutable_idempotency_key(),
                  "Sent twice, it counts once")
      ->type_name("KEY");
  app->footer(
      "\nExamples:\n"
      "  vernier feedback EXPOSURE thumbs_up true\n"
      "  vernier feedback EXPOSURE better --over OTHER_EXPOSURE --source reviewers");
}

}  // namespace vernier::cli
