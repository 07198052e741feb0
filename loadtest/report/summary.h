// From outcomes to figures. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/strings/string_view.h"
#include "loadtest/report/outcome.h"

namespace vernier::loadtest {

// Both hold or the request is not good (DistServe's goodput).
struct Slo {
  double first_token_seconds = 2;
  double per_token_seconds = 0.1;
};

// Of what was scheduled in [from, until), and of the tokens that came then.
struct Window {
  double from = 0;
  double until = 0;
  double Seconds() const { return until - from; }
};

struct Percentiles {
  int64_t count = 0;
  double mean = 0, p50 = 0, p90 = 0, p99 = 0, max = 0;  // all 0 for none
};

struct Summary {
  double seconds = 0;  // of the window
  int64_t sent = 0, completed = 0, refused = 0, deadline = 0, cancelled = 0, failed = 0,
          unfinished = 0;
  int64_t good = 0;                                                 // completed within the SLO
  int64_t prompt_tokens = 0, output_tokens = 0, cached_tokens = 0;  // of the completed
  // That came within the window, whenever their request was sent and however it ended: clients of a
  // closed loop send in waves, and those of the last wave go on behind the window.
  double streamed_tokens = 0;
  Percentiles first_token;  // from the scheduled time, of every request that got one
  Percentiles per_token;    // (end - first) / (tokens - 1), of the completed with two or more
  Percentiles inter_token;  // every gap between messages with tokens
  Percentiles end_to_end;   // from the scheduled time, of the completed
  Percentiles refusal;      // from the sending, of the refused
  Percentiles send_delay;   // from the scheduled time to the sending: how late the client was

  double PerSecond(int64_t count) const;
  double OfferedRate() const { return PerSecond(sent); }
  double OutputRate() const { return seconds > 0 ? streamed_tokens / seconds : 0; }
  double Goodput() const { return PerSecond(good); }
  double Attained() const;  // good / sent; 0 of none
};

// Linear interpolation between the two nearest ranks (type 7 of Hyndman and Fan 1996, as numpy).
// 0 of none. `sorted` ascends; `share` in [0, 1].
double Quantile(std::span<const double> sorted, double share);
Percentiles PercentilesOf(std::vector<double> values);

// (end - first token) / (tokens - 1) seconds; < 0 for fewer than two tokens.
double PerTokenSeconds(const Outcome& outcome);
bool IsGood(const Outcome& outcome, const Slo& slo);

Summary Summarize(std::span<const Outcome> outcomes, const Window& window, const Slo& slo);

// Jain, Chiu and Hawe (1984): 1 when all are equal, 1/n when one has everything; 1 of none.
double JainIndex(std::span<const double> values);

// Which way a figure is good.
enum class Better { kHigher, kLower, kNeither };

// The figures of a summary by name: what JSON, CSV, tables and comparisons are made from.
struct SummaryField {
  const char* name;
  Better better;
  double (*get)(const Summary&);
};
std::span<const SummaryField> SummaryFields();

}  // namespace vernier::loadtest
