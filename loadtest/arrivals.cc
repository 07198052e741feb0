#include "loadtest/arrivals.h"

#include <random>

namespace vernier::loadtest {

std::vector<double> Arrivals(const ArrivalOptions& options) {
  std::mt19937_64 random(options.seed);
  std::exponential_distribution<double> exponential(options.rate);
  // Mean shape * scale = 1 / rate, variance shape * scale^2.
  const double shape = 1 / (options.variation * options.variation);
  std::gamma_distribution<double> gamma(shape, 1 / (options.rate * shape));
  const auto gap = [&] {
    switch (options.process) {
      case ArrivalProcess::kPoisson:
        return exponential(random);
      case ArrivalProcess::kGamma:
        return gamma(random);
      case ArrivalProcess::kUniform:
        break;
    }
    return 1 / options.rate;
  };
  std::vector<double> times;
  for (double at = gap(); at < options.seconds; at += gap()) {
    times.push_back(at);
    if (static_cast<int64_t>(times.size()) == options.max_requests) break;
  }
  return times;
}

}  // namespace vernier::loadtest
