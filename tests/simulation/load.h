// Traffic of many clients against the real admission and scheduler of one or more replicas, on a
// virtual clock whose steps take what a linear cost says: what tenants and variants get, and when.
// No token is computed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "engine/reservation.h"
#include "engine/scheduler.h"
#include "loadtest/report/report.h"

namespace vernier::simulation {

// Clients of one kind.
struct LoadSource {
  std::string tenant;
  int variant = 0;
  Priority priority = Priority::kNormal;
  double requests_per_second = 1;  // Poisson
  int64_t prompt_tokens = 100;     // half to three halves of it
  int64_t output_tokens = 50;      // likewise
  int64_t prefix_tokens = 0;       // before the prompt's own, of one of so many texts:
  int prefixes = 1;
  absl::Duration time_limit = absl::InfiniteDuration();
  int cancelled = 0;  // per cent, at some time within a second
};

// Which replica gets a request.
enum class Routing {
  kRoundRobin,
  kLeastRequests,  // admitted and unfinished, as a scrape of its metrics would say
  kPrefix,         // always the same for the same first text, whatever its load
};

struct LoadOptions {
  SchedulerLimits limits;     // of each replica
  AdmissionLimits admission;  // likewise
  int replicas = 1;
  Routing routing = Routing::kRoundRobin;
  // Of a step: this, and this a row.
  absl::Duration step = absl::Milliseconds(10);
  absl::Duration row = absl::Microseconds(200);
  std::vector<LoadSource> sources;
  absl::Duration duration = absl::Seconds(60);  // of arrivals; then what was admitted ends
  uint64_t seed = 1;
};

// What the clients of a source saw.
struct LoadOutcome {
  int64_t sent = 0;
  int64_t refused = 0;
  int64_t completed = 0;  // by their length
  int64_t ended = 0;      // otherwise
  int64_t preemptions = 0;
  int64_t cached_tokens = 0;
  int64_t tokens = 0;                       // prompt and drawn, of the completed ones
  int64_t tokens_in_time = 0;               // drawn before arrivals stopped
  std::vector<absl::Duration> first_token;  // from the arrival, by completion
  std::vector<absl::Duration> retry_after;  // of the refused
};

struct LoadResult {
  std::vector<LoadOutcome> outcomes;        // by source
  std::vector<loadtest::Outcome> requests;  // as the load test has them: tenants are sources
  int64_t steps = 0;
  absl::Duration longest_decode;     // step with a decode row, after the first second
  std::vector<absl::Duration> busy;  // of the device, by variant, before arrivals stopped
};

// The same for the same options.
LoadResult RunLoad(const LoadOptions& options);

// What the load test would say of it, in a window behind the first `warmup`.
loadtest::RunReport ReportOf(const LoadOptions& options, const LoadResult& result,
                             absl::Duration warmup, const loadtest::Slo& slo);

// The value that a share `q` of `values` does not exceed; zero of none.
absl::Duration Percentile(std::vector<absl::Duration> values, double q);

}  // namespace vernier::simulation
