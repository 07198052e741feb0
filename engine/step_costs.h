// What steps take, as measured: a table by variant and rows, from which chunks and turns are
// chosen.
//
// Pure values, used by the scheduler alone, on the device thread. It learns from every step, so it
// follows the contexts and the clock rates of the hour. What was never measured is computed from
// the nearest row count that was, or from a guess of proportions alone. So is what was not measured
// for long: the first large step pays for pages, plans and caches, and were it believed for ever,
// none like it would be planned and measured again.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "absl/time/time.h"

namespace vernier {

class StepCosts {
 public:
  // A step of `rows` rows under `variant` took `duration`. REQUIRES: rows >= 1.
  void Observe(int variant, int64_t rows, absl::Duration duration);

  // What such a step will take; never falls as rows grow.
  absl::Duration Predict(int variant, int64_t rows) const;

  // Most rows, at most `limit`, of a step that takes at most `budget`; 0: none.
  int64_t RowsWithin(int variant, absl::Duration budget, int64_t limit) const;

 private:
  // Steps of [2^i, 2^(i + 1)) rows, averaged with more weight on the later ones.
  struct Bucket {
    double rows = 0;  // 0: nothing measured
    double seconds = 0;
    int64_t newest = 0;  // number of the last step here, of the table's
  };
  static constexpr int kBuckets = 15;  // the last takes everything from 16384 rows
  struct Table {
    std::array<Bucket, kBuckets> buckets;
    int64_t steps = 0;

    bool Knows(const Bucket& bucket) const;
  };

  std::vector<Table> tables_;  // by variant
};

}  // namespace vernier
