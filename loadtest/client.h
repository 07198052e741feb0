// Calls of GenerateStream, timed by the thread that gRPC tells of each message.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "loadtest/options.h"
#include "loadtest/report/outcome.h"
#include "loadtest/workload.h"

namespace vernier::loadtest {

// What the server says of itself.
struct ServerFacts {
  std::string description;  // "stories260K (cpu avx512, 2 threads)"
  int64_t max_context = 0;
  int64_t vocab = 0;
  std::vector<std::string> variants;
};

struct CallResult {
  Outcome outcome;
  std::string error;  // "RESOURCE_EXHAUSTED: the queue is full"; empty for an end as planned
};

// Thread-safe.
class Client {
 public:
  // Dials and asks for the model. UNAVAILABLE where nobody answers within 10 s.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(const ServerOptions& options);
  virtual ~Client() = default;  // REQUIRES: no call is alive

  virtual const ServerFacts& facts() const = 0;
  // `now` gives seconds since the run began, from any thread. `done` is called exactly once, by a
  // thread of gRPC. Returns what cancels the call, as long as it lives.
  virtual std::function<void()> Start(const Workload& workload, const PlannedRequest& request,
                                      const RunOptions& run, double scheduled,
                                      const std::function<double()>& now,
                                      std::function<void(CallResult)> done) = 0;
};

}  // namespace vernier::loadtest
