#include "engine/step_costs.h"

#include <algorithm>
#include <bit>

namespace vernier {
namespace {

// Reading the weights costs as much as this many rows, where nothing is measured.
constexpr double kPassRows = 16;
// Of a step of no rows but those: only the proportions matter.
constexpr double kGuessedRowSeconds = 1e-6;
// Weight of the newest measurement: about the last ten count.
constexpr double kNewest = 0.1;
// Steps of a variant after which what none of them measured is forgotten.
constexpr int64_t kRemembered = 500;

// In proportion to a measured one.
double Scaled(double rows, double measured_rows, double seconds) {
  return seconds * (rows + kPassRows) / (measured_rows + kPassRows);
}

}  // namespace

bool StepCosts::Table::Knows(const Bucket& bucket) const {
  return bucket.rows > 0 && steps - bucket.newest < kRemembered;
}

void StepCosts::Observe(int variant, int64_t rows, absl::Duration duration) {
  if (duration <= absl::ZeroDuration()) return;  // too short for the clock
  const size_t index = static_cast<size_t>(variant);
  if (index >= tables_.size()) tables_.resize(index + 1);
  const int width = std::bit_width(static_cast<uint64_t>(std::max<int64_t>(rows, 1)));
  Table& table = tables_[index];
  Bucket& bucket = table.buckets[static_cast<size_t>(std::min(width, kBuckets) - 1)];
  const double weight = table.Knows(bucket) ? kNewest : 1;
  bucket.newest = ++table.steps;
  bucket.rows += weight * (static_cast<double>(rows) - bucket.rows);
  bucket.seconds += weight * (absl::ToDoubleSeconds(duration) - bucket.seconds);
}

absl::Duration StepCosts::Predict(int variant, int64_t rows) const {
  const double wanted = static_cast<double>(rows);
  Bucket below{.rows = 0, .seconds = 0};
  const size_t index = static_cast<size_t>(variant);
  if (index < tables_.size()) {
    const Table& table = tables_[index];
    for (const Bucket& bucket : table.buckets) {
      if (!table.Knows(bucket)) continue;
      const double seconds = std::max(bucket.seconds, below.seconds);  // a noisy one never falls
      if (bucket.rows >= wanted) {
        const double share =
            below.rows == 0 ? 1 : (wanted - below.rows) / (bucket.rows - below.rows);
        // Below the first measured one there is the guess; a single row may cost as much as it.
        const double estimate = below.rows == 0 ? Scaled(wanted, bucket.rows, seconds)
                                                : below.seconds + share * (seconds - below.seconds);
        return absl::Seconds(estimate);
      }
      below = {bucket.rows, seconds};
    }
  }
  if (below.rows == 0) return absl::Seconds((wanted + kPassRows) * kGuessedRowSeconds);
  return absl::Seconds(Scaled(wanted, below.rows, below.seconds));
}

int64_t StepCosts::RowsWithin(int variant, absl::Duration budget, int64_t limit) const {
  int64_t fits = 0;
  for (int64_t step = std::bit_floor(static_cast<uint64_t>(std::max<int64_t>(limit, 1))); step > 0;
       step /= 2) {
    if (fits + step <= limit && Predict(variant, fits + step) <= budget) fits += step;
  }
  return fits;
}

}  // namespace vernier
