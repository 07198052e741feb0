// Experiments and feedback as people write them.
//
// Pure, any thread.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cli/options.h"

namespace vernier::cli {

// protobuf's JSON of v1::Experiment, by the proto's names or in camelCase; `name` is where it came
// from. INVALID_ARGUMENT for what is no JSON, and for a field that there is not, by its path.
absl::StatusOr<v1::Experiment> ParseExperiment(absl::string_view json, absl::string_view name);

// INVALID_ARGUMENT for an arm without a name or variant, and for a step that leaves the arms more
// than all units.
absl::StatusOr<v1::Experiment> QuickExperiment(const QuickExperimentOptions& options);

// Sets the event's value to what `text` looks like: "true" and "false", a finite number, else text.
void SetFeedbackValue(const std::string& text, v1::FeedbackEvent* event);

}  // namespace vernier::cli
