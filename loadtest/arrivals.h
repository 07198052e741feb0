// When requests are sent: seconds since the run began, ascending. The same for the same seed.
#pragma once

#include <cstdint>
#include <vector>

namespace vernier::loadtest {

enum class ArrivalProcess {
  kPoisson,
  kGamma,    // gaps of a gamma distribution: bursts for a coefficient of variation above 1
  kUniform,  // every gap the same
};

struct ArrivalOptions {
  ArrivalProcess process = ArrivalProcess::kPoisson;
  double rate = 1;           // requests a second in the mean; > 0
  double variation = 1;      // of kGamma's gaps: standard deviation over mean; > 0
  double seconds = 60;       // of arrivals
  int64_t max_requests = 0;  // 0: as many as come
  uint64_t seed = 1;
};

std::vector<double> Arrivals(const ArrivalOptions& options);

}  // namespace vernier::loadtest
