#include "loadtest/report/knee.h"

#include <algorithm>
#include <cmath>

namespace vernier::loadtest {

Knee FindKnee(std::span<const SweepPoint> points, double attainment) {
  Knee knee;
  for (const SweepPoint& point : points) {
    if (point.attained >= attainment) continue;
    knee.fails = std::min(knee.fails.value_or(point.rate), point.rate);
  }
  for (const SweepPoint& point : points) {
    if (point.attained < attainment || (knee.fails.has_value() && point.rate >= *knee.fails)) {
      continue;
    }
    knee.held = std::max(knee.held.value_or(point.rate), point.rate);
  }
  return knee;
}

std::optional<double> NextRate(std::span<const SweepPoint> points, const SweepOptions& options) {
  if (points.empty()) return options.first_rate;
  if (points.size() >= static_cast<size_t>(std::max(0, options.max_runs))) return std::nullopt;
  const Knee knee = FindKnee(points, options.attainment);
  if (!knee.fails.has_value()) return *knee.held * options.growth;
  if (!knee.held.has_value()) return *knee.fails / options.growth;
  if (*knee.fails <= *knee.held * options.precision) return std::nullopt;
  return std::sqrt(*knee.held * *knee.fails);
}

}  // namespace vernier::loadtest
