// What the command line asked for: a struct a command, holding the request that it becomes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vernier/v1/evaluation.pb.h"
#include "vernier/v1/experiments.pb.h"
#include "vernier/v1/inference.pb.h"

namespace vernier::cli {

// What a chat's template gets beside the messages.
struct TemplateInputOptions {
  std::string tools;                   // a file with JSON; "-": standard input; empty: none
  std::vector<std::string> arguments;  // "name=value", the value JSON or else text
  bool empty() const { return tools.empty() && arguments.empty(); }
};

// Where the prompt comes from, and how it is sent.
struct PromptOptions {
  enum class As { kWhatTheModelHas, kRaw, kChat };
  As as = As::kWhatTheModelHas;
  std::optional<std::string> text;  // "-" or none: standard input
  std::vector<uint32_t> ids;        // not empty: instead of text
  std::string system;               // of a chat
  TemplateInputOptions template_inputs;
};

struct GenerateOptions {
  v1::GenerateRequest request;  // without its input
  PromptOptions prompt;
  bool quiet = false;
};

struct CompareOptions {
  v1::CompareRequest request;  // base without its input
  PromptOptions prompt;
};

struct ScoreOptions {
  v1::ScoreRequest request;  // without its input, and without the window if there is a stride
  std::optional<std::string> file;
  std::optional<std::string> text;
  std::vector<uint32_t> ids;
  uint32_t stride = 0;  // 0: windows follow each other
  bool summary = false;
};

struct ChatOptions {
  v1::GenerateRequest request;  // without its input
  std::string system;
  TemplateInputOptions template_inputs;
};

// What `experiment create` makes an experiment of.
struct QuickExperimentOptions {
  std::string id;
  std::vector<std::string> arms;  // "VARIANT" or "NAME=VARIANT", of equal weights
  std::string control;            // empty: the first
  // Of all units, for each arm but the control; empty: the server's.
  std::vector<double> ramp_percent;
  v1::Experiment::Unit unit = v1::Experiment::UNIT_UNSPECIFIED;
  std::string primary;
  double margin = 0;                  // with `primary`
  std::vector<std::string> feedback;  // metrics of yes and no
  double shadow_share = 0;
};

// Of each action, its part.
struct ExperimentOptions {
  enum class Action { kPut, kCreate, kList, kStatus, kControl, kExplain, kExport };
  Action action = Action::kList;
  std::string file;  // of put; "-": standard input
  QuickExperimentOptions create;
  v1::GetExperimentRequest get;  // of status and export
  bool watch = false;
  double every_seconds = 2;
  bool csv = false;  // of export; else JSON
  v1::ControlExperimentRequest control;
  v1::ExplainAssignmentRequest explain;
};

struct FeedbackOptions {
  v1::FeedbackEvent event;  // without its value, unless that is a preference
  std::optional<std::string> value;
  bool text = false;  // the value is text, whatever it looks like
};

struct TokenizeOptions {
  std::string model;
  std::optional<std::string> file;
  std::optional<std::string> text;
  bool recognise_special = false;
  bool add_begin = true;
};

struct TemplateOptions {
  std::string file;  // Jinja
  std::string data;  // a file with a JSON object: the template's variables
};

struct InspectOptions {
  std::string model;
  bool tensors = false;
  bool digest = false;
  bool write_manifest = false;
  bool golden = false;
};

enum class Verb {
  kGenerate,
  kCompare,
  kScore,
  kModels,
  kChat,
  kTokenize,
  kTemplate,
  kInspect,
  kLoad,
  kUnload,
  kPlan,
  kExperiment,
  kFeedback
};

struct CommandLine {
  Verb verb = Verb::kModels;
  std::string server = "127.0.0.1:50051";
  double timeout_seconds = 0;    // of a call; 0: none
  std::string ca;                // PEM file of who signed the server's certificate; empty: no TLS
  std::string certificate, key;  // PEM files that a server with client_ca asks for
  std::string api_key;
  bool json = false;
  std::string routing_key;  // of generate and chat: who is asking, for experiments and proxies
  GenerateOptions generate;
  CompareOptions compare;
  ScoreOptions score;
  ChatOptions chat;
  TokenizeOptions tokenize;
  TemplateOptions chat_template;
  InspectOptions inspect;
  std::string control_variant;  // of load, unload and plan
  ExperimentOptions experiment;
  FeedbackOptions feedback;
};

}  // namespace vernier::cli
