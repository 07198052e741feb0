#include "cli/experiment_input.h"

#include <google/protobuf/util/json_util.h>

#include <cmath>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace vernier::cli {
namespace {

absl::Status AddArm(const std::string& text, v1::Experiment* experiment) {
  const size_t equals = text.find('=');
  const std::string name = text.substr(0, equals);
  const std::string variant = equals == std::string::npos ? name : text.substr(equals + 1);
  if (name.empty() || variant.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--arms: '", text, "' is neither VARIANT nor NAME=VARIANT"));
  }
  v1::ExperimentArm* arm = experiment->add_arms();
  arm->set_name(name);
  arm->set_variant(variant);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::Experiment> ParseExperiment(absl::string_view json, absl::string_view name) {
  v1::Experiment experiment;
  const auto status =
      google::protobuf::util::JsonStringToMessage({json.data(), json.size()}, &experiment);
  if (status.ok()) return experiment;
  const auto message = status.message();
  return absl::InvalidArgumentError(absl::StrCat(
      name, " is no experiment in JSON: ", absl::string_view(message.data(), message.size())));
}

absl::StatusOr<v1::Experiment> QuickExperiment(const QuickExperimentOptions& options) {
  v1::Experiment experiment;
  experiment.set_id(options.id);
  experiment.set_unit(options.unit);
  for (const std::string& arm : options.arms) {
    if (absl::Status status = AddArm(arm, &experiment); !status.ok()) return status;
  }
  experiment.set_control(options.control);
  for (const double percent : options.ramp_percent) {
    const double most = 100.0 / experiment.arms_size();
    if (percent <= 0 || percent > most) {
      return absl::InvalidArgumentError(
          absl::StrCat("--ramp: a step is ", percent, " percent, and ", experiment.arms_size(),
                       " equal arms have above 0 to ", most, " each"));
    }
    experiment.add_ramp(percent / most);
  }
  for (const std::string& metric : options.feedback) {
    v1::FeedbackMetric* declared = experiment.add_metrics();
    declared->set_name(metric);
    declared->set_type(v1::FeedbackMetric::BOOL);
  }
  if (!options.primary.empty()) {
    experiment.mutable_decision()->set_primary(options.primary);
    experiment.mutable_decision()->set_margin(options.margin);
  }
  experiment.set_shadow_share(options.shadow_share);
  return experiment;
}

void SetFeedbackValue(const std::string& text, v1::FeedbackEvent* event) {
  double number = 0;
  if (text == "true" || text == "false") {
    event->set_flag(text == "true");
  } else if (absl::SimpleAtod(text, &number) && std::isfinite(number)) {
    event->set_number(number);
  } else {
    event->set_text(text);
  }
}

}  // namespace vernier::cli
