// What a definition makes of reports and guardrails, and of what Feedback said.
//
// Pure functions, any thread.
#pragma once

#include <memory>

#include "server/experiments/definition.h"
#include "server/experiments/guardrails.h"
#include "server/experiments/report.h"
#include "server/experiments/report_message.h"
#include "server/experiments/store.h"

namespace vernier {

std::unique_ptr<ReportBuilder> MakeReport(const Definition& definition);
std::unique_ptr<Guardrails> MakeGuardrails(const Definition& definition);
// REQUIRES: the definition declares the metric, or did.
FeedbackValue ValueOf(const Definition& definition, const StoredFeedback& feedback);

}  // namespace vernier
