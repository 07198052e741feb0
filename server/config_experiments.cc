// The part of the configuration that defines experiments: v1::Experiment in YAML, by protobuf's
// JSON mapping.
#include <google/protobuf/util/json_util.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "server/config_reader.h"
#include "server/experiments/definition.h"

namespace vernier {
namespace {

constexpr int kMaxDepth = 8;
constexpr int kMaxNodes = 10000;  // aliases make many of few bytes

// Truth values are such unless they are quoted; protobuf reads numbers from texts.
nlohmann::json ScalarOf(const YAML::Node& node) {
  const std::string& text = node.Scalar();
  const bool truth = node.Tag() != "!" && (text == "true" || text == "false");
  return truth ? nlohmann::json(text == "true") : nlohmann::json(text);
}

// `nodes` counts what was read; what is too deep or too much is null.
nlohmann::json JsonOf(const YAML::Node& node, int depth, int* nodes) {
  if (depth > kMaxDepth || ++*nodes > kMaxNodes || node.IsNull()) return nullptr;
  if (node.IsScalar()) return ScalarOf(node);
  nlohmann::json out = node.IsMap() ? nlohmann::json::object() : nlohmann::json::array();
  if (node.IsMap()) {
    for (const auto& entry : node) {
      if (entry.first.IsScalar())
        out[entry.first.Scalar()] = JsonOf(entry.second, depth + 1, nodes);
    }
  } else {
    for (const YAML::Node& entry : node) {
      if (*nodes > kMaxNodes) break;
      out.push_back(JsonOf(entry, depth + 1, nodes));
    }
  }
  return out;
}

// Names, which may look like truth values, are texts.
void QuoteNames(const google::protobuf::Descriptor& type, nlohmann::json* json) {
  if (!json->is_object()) return;
  for (auto& [key, value] : json->items()) {
    const auto* field = type.FindFieldByName(key);
    if (field == nullptr) continue;
    const auto quote = [&](nlohmann::json* one) {
      if (field->message_type() != nullptr) return QuoteNames(*field->message_type(), one);
      if (field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_STRING &&
          one->is_boolean()) {
        *one = one->dump();
      }
    };
    if (value.is_array()) {
      for (auto& one : value) quote(&one);
    } else {
      quote(&value);
    }
  }
}

void ReadExperiments(ConfigReader* reader, const YAML::Node& node,
                     std::vector<ConfiguredExperiment>* experiments) {
  if (!node.IsSequence()) return reader->Error(node, "experiments.define must be a list");
  int nodes = 0;
  for (const YAML::Node& entry : node) {
    if (!entry.IsMap()) {
      reader->Error(entry, "an experiment must be a mapping of keys to values");
      continue;
    }
    nlohmann::json json = JsonOf(entry, 0, &nodes);
    if (nodes > kMaxNodes) {
      return reader->Error(entry,
                           absl::StrCat("experiments.define has more than ", kMaxNodes, " values"));
    }
    QuoteNames(*v1::Experiment::descriptor(), &json);
    ConfiguredExperiment experiment{.line = entry.Mark().line + 1};
    const auto status = google::protobuf::util::JsonStringToMessage(
        json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), &experiment.message);
    if (!status.ok()) {
      reader->Error(entry, absl::StrCat("experiments.define: ",
                                        Printable(std::string(status.message()).substr(0, 256))));
      continue;
    }
    experiments->push_back(std::move(experiment));
  }
}

}  // namespace

ConfigReader::Keys ExperimentsKeys(ConfigReader* reader, ServerConfig* config) {
  return {{"folder", reader->Text(&config->experiments_folder)},
          {"define", [=](const YAML::Node& node, const std::string&) {
             ReadExperiments(reader, node, &config->experiments);
           }}};
}

void CheckExperiments(ParsedConfig* parsed) {
  const ServerConfig& config = parsed->config;
  const std::vector<std::string> variants = config.VariantNames();
  std::set<std::string> ids;
  for (const ConfiguredExperiment& experiment : config.experiments) {
    const auto error = [&](const std::string& message) {
      parsed->errors.push_back({experiment.line, message});
    };
    if (config.experiments_folder.empty()) error("experiments.define without experiments.folder");
    const auto complete = CompleteExperiment(experiment.message, variants);
    if (!complete.ok()) error(absl::StrCat("experiments.define: ", complete.status().message()));
    if (!ids.insert(experiment.message.id()).second) {
      error(absl::StrCat("experiment ", ConfigReader::Shown(experiment.message.id()),
                         " is given twice"));
    }
  }
}

}  // namespace vernier
