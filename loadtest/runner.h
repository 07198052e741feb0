// One run: sends what the workload gives when the arrivals say, and waits for the ends.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "loadtest/client.h"
#include "loadtest/options.h"
#include "loadtest/report/outcome.h"
#include "loadtest/report/report.h"

namespace vernier::loadtest {

// Of everything so far, told about once a second by the thread that called Run.
struct Progress {
  double at = 0;  // seconds since the run began
  int64_t sent = 0, completed = 0, refused = 0, other = 0;
  int64_t alive = 0;
  double first_token_p50 = 0;  // of what ended since the last time, seconds
};

struct RunResult {
  std::vector<Outcome> outcomes;
  std::vector<TimelinePoint> timeline;  // where a metrics page was given
  std::map<std::string, int64_t> errors;
  Window window;  // behind the warm-up
  bool stopped = false;
};

// `arrivals`: when each request is sent; empty for a closed loop. `stop`: sends no more, cancels
// what runs, and returns with `stopped`.
RunResult Run(const RunOptions& options, const std::vector<double>& arrivals,
              const std::string& metrics_address, Workload* workload, Client* client,
              const std::atomic<bool>& stop, const std::function<void(const Progress&)>& progress);

}  // namespace vernier::loadtest
