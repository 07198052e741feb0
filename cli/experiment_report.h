// What experiments look like on a terminal.
//
// Pure, any thread.
#pragma once

#include <string>

#include "cli/columns.h"
#include "vernier/v1/experiments.pb.h"

namespace vernier::cli {

// Arms, latency, gates, differences with their bounds drawn around zero, shadows, guardrails and
// the verdict. Where a gate failed it says INVALID first, last and beside what may not be
// concluded. No line is wider than the canvas where that has 60 columns.
std::string RenderExperiment(const v1::ExperimentReport& report, const Canvas& canvas);

// A line each.
std::string RenderExperiments(const v1::ListExperimentsResponse& reply, const Canvas& canvas);

std::string RenderExplanation(const v1::ExplainAssignmentResponse& reply, const Canvas& canvas);

// "nf4-canary: RUNNING, step 3 of 5: 20 % of sessions take part; version 7", and a line with the
// reason of the last change.
std::string ExperimentSummary(const v1::Experiment& experiment);

// What cannot be concluded from: a gate failed.
bool IsInvalid(const v1::ExperimentReport& report);

}  // namespace vernier::cli
