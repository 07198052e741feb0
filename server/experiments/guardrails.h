// What takes a treatment back at once, and what keeps its ramp from going on.
//
// A guardrail that reverts is an e-process: whenever it is looked at, and however long it runs, a
// treatment that keeps its limit is reverted with probability 1/1000 at most by each of them.
// Shadows count: what a variant does wrong it does whether or not somebody reads the answer.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "server/experiments/answer_checks.h"
#include "server/experiments/exposure_record.h"
#include "server/experiments/report.h"
#include "server/experiments/statistics.h"

namespace vernier {

struct GuardrailLimits {
  double max_error_rate = 0.003;  // (0, 1); of the requests that end by an answer or a failure
  double max_broken_rate = 0.02;  // (0, 1); of the answers
  std::optional<double> max_kl;   // nats a token, > 0: mean over scored answers
  bool off = false;               // no limit but that logits are finite
};

struct Crossing {
  int arm = 0;
  const char* guardrail = "";  // "not_finite", "errors", "broken" or "kl": a metric's label
  std::string reason;          // a sentence with the figure and the limit
};

// Of one experiment; its records in any order. Not thread-safe.
class Guardrails {
 public:
  // `arms` are names; `control` is an index of them. REQUIRES: limits within their ranges.
  Guardrails(const GuardrailLimits& limits, std::vector<std::string> arms, int control);

  // The first crossing, once; then nothing more, whatever comes. Costs less than a microsecond.
  std::optional<Crossing> Add(const ExposureRecord& record);

 private:
  struct Watch {
    Watch(const GuardrailLimits& limits);
    ErrorProcess errors, broken;
    std::optional<MeanProcess> kl;
    int64_t ended = 0, failed = 0, answered = 0, were_broken = 0, scored = 0;
    double kl_sum = 0;
  };

  std::optional<Crossing> CheckEnd(int arm, const ExposureRecord& record);
  std::optional<Crossing> CheckScore(int arm, const ExposureRecord& record);

  const GuardrailLimits limits_;
  const std::vector<std::string> arms_;
  const int control_;
  std::vector<Watch> watches_;  // one an arm; the control's is not used
  bool crossed_ = false;
};

// What holds a ramp: a treatment whose first token's 95th percentile is surely above 1.2 times that
// of the control, or whose answers are surely longer by a quarter or shorter by a fifth. "Surely":
// by bounds that hold at every look. Two results for every treatment arm.
std::vector<GateResult> HoldingGates(const ExperimentReport& report);

}  // namespace vernier
