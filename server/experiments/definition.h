// An experiment as it is stored and routed by: its message checked, every default filled in, and
// what a request needs of it.
//
// Pure values, any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/experiments/assignment.h"
#include "vernier/v1/experiments.pb.h"

namespace vernier {

inline constexpr int kMaxArms = 8;

struct Definition {
  v1::Experiment message;
  uint32_t number = 0;              // in the log and the store
  ExperimentPlan plan;              // its coverage is that of the state and the step
  std::vector<BucketRange> ranges;  // of plan
  std::vector<int> variants;        // of each arm: an index of the model's
  int control = 0;                  // arms
  int promoted = -1;

  // Whether requests may get an arm of it.
  bool Routes() const {
    return message.state() == v1::Experiment::RUNNING ||
           message.state() == v1::Experiment::PROMOTED;
  }
};

// What Put was given, checked and with its defaults; `state`, `step` and `promoted` are kept as
// they are. InvalidField by proto path; variants are those of the configuration, in its order.
absl::StatusOr<v1::Experiment> CompleteExperiment(const v1::Experiment& given,
                                                  std::span<const std::string> variants);
// REQUIRES: `message` comes from CompleteExperiment with the same variants.
Definition DefinitionOf(const v1::Experiment& message, uint32_t number,
                        std::span<const std::string> variants);
// FAILED_PRECONDITION where `next` changes what must stay while units hold arms.
absl::Status CheckKeepsArms(const v1::Experiment& now, const v1::Experiment& next);

// `message` after an action, or why the state does not allow it. The version is not raised.
absl::StatusOr<v1::Experiment> AfterAction(const v1::Experiment& message,
                                           const v1::ControlExperimentRequest& request);
// [A-Za-z0-9._-]{1,64}
bool IsName(absl::string_view text);
// At most 64 bytes of it, printable ones.
std::string PrintableName(absl::string_view name);
// "running", "rolled_back", ...
std::string StateName(v1::Experiment::State state);

}  // namespace vernier
