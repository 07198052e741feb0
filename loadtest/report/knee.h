// Where a sweep of rates goes next, and the rate up to which the target is held. Pure.
#pragma once

#include <optional>
#include <span>

namespace vernier::loadtest {

struct SweepOptions {
  double first_rate = 1;     // requests a second
  double attainment = 0.99;  // share of requests within the SLO at which a rate is held
  double growth = 2;         // from one rate to the next while all are held
  double precision = 1.1;  // ends when the lowest rate that fails is at most so many times the knee
  int max_runs = 12;
};

struct SweepPoint {
  double rate = 0;
  double attained = 0;  // share of requests within the SLO
};

struct Knee {
  std::optional<double> held;   // highest rate below the first that fails; none: all failed
  std::optional<double> fails;  // lowest rate that fails; none: all were held
};

// A rate that is held above one that fails counts for nothing.
Knee FindKnee(std::span<const SweepPoint> points, double attainment);

// The rate to run next: up by `growth` until one fails (down where the first fails), then the
// geometric mean of the knee's two ends. Nothing when it is precise enough or runs are spent.
std::optional<double> NextRate(std::span<const SweepPoint> points, const SweepOptions& options);

}  // namespace vernier::loadtest
