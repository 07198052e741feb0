// Simulated experiments, run through what decides real ones: a few of each in the tests, thousands
// in tests/bench/experiments_bench.
//
// Each is one run of a seed; what a run returns is when something was found, in values, and
// `limit` + 1 where it was not.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "server/experiments/guardrails.h"
#include "server/experiments/report.h"
#include "server/experiments/statistics.h"
#include "tests/server/experiments/records.h"

namespace vernier::testing {

// The value below which a share of the runs lies.
inline int64_t QuantileOf(std::vector<int64_t> values, double share) {
  const auto at = static_cast<size_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(at), values.end());
  return values[at];
}

// ---- Equal arms, looked at again and again ----

struct NullRun {
  bool by_sequence = false, by_naive_test = false;  // a difference at any look
};

// 10,000 requests of two arms that both fail in 20 % of cases; 200 looks at the difference.
inline NullRun LookAtEqualArms(uint64_t seed) {
  constexpr int kRequests = 10000, kEvery = 50;
  ReportBuilder builder(CanaryPlan(), kExperiment, 0, {.unit_is_request = true});
  Uniform uniform(seed);
  NullRun run;
  for (int i = 1; i <= kRequests; ++i) {
    ExposureRecord record = Done(i, uniform() < 0.5 ? kControl : kCanary, 0);
    record.grpc_status = uniform() < 0.2 ? kInternal : 0;
    builder.Add(record);
    if (i % kEvery != 0) continue;
    const ArmComparison errors = builder.Compare(kCanary, static_cast<int>(ReportMetric::kErrors));
    run.by_sequence |= errors.bounds.low > 0 || errors.bounds.high < 0;
    run.by_naive_test |= NaiveTestRejects(errors.difference, 0.05);
  }
  return run;
}

// ---- A split that is not as it should be ----

// Exposures until arms that get `rate` and the rest are not even, looked at every 50.
inline int64_t UnevenAt(double rate, int64_t limit, uint64_t seed) {
  Uniform uniform(seed);
  std::vector<int64_t> counts(2);
  const std::vector<double> even = {0.5, 0.5};
  for (int64_t i = 1; i <= limit; ++i) {
    ++counts[uniform() < rate ? 0 : 1];
    if (i % 50 == 0 && SampleRatioLnBayesFactor(counts, even) > std::log(1000.0)) return i;
  }
  return limit + 1;
}

// ---- Guardrails ----

// Canary requests until guardrails at their defaults revert one that fails and breaks at such
// rates.
inline int64_t RevertedAt(double error_rate, double broken_rate, int64_t limit, uint64_t seed) {
  Uniform uniform(seed);
  Guardrails guardrails({}, {"control", "canary"}, kControl);
  for (int64_t i = 1; i <= limit; ++i) {
    ExposureRecord record = Done(i, kCanary, 1, uniform() < broken_rate ? 0 : 100);
    if (uniform() < error_rate) record.grpc_status = kInternal;
    if (guardrails.Add(record)) return i;
  }
  return limit + 1;
}

// Scored answers until a KL of `mean`, exponentially distributed, is above 0.03.
inline int64_t KlFoundAt(double mean, int64_t limit, uint64_t seed) {
  Uniform uniform(seed);
  Guardrails guardrails({.max_kl = 0.03}, {"control", "canary"}, kControl);
  for (int64_t i = 1; i <= limit; ++i) {
    ExposureRecord record = ShadowScore(i, 1);
    record.score_kl = static_cast<float>(uniform.Exponential(mean));
    if (guardrails.Add(record)) return i;
  }
  return limit + 1;
}

// ---- Non-inferiority ----

struct Decided {
  int64_t pairs = 0;
  NonInferiority verdict = NonInferiority::kUndecided;
};

// Pairs until a verdict at a margin of 2 points, looked at every 20: shadows that fail where the
// answer did not in `worse` of the cases, and the other way in `better`.
inline Decided DecideByPairs(double worse, double better, int64_t limit, uint64_t seed) {
  ReportBuilder builder(
      CanaryPlan(), kExperiment, 0,
      {.sequence = {.tuned_count = PairedSampleSize(0.04, 0.02, 0.05, 0.9)},
       .decision = DecisionRule{
           .metric = static_cast<int>(ReportMetric::kErrors), .margin = 0.02, .by_pairs = true}});
  Uniform uniform(seed);
  for (int64_t i = 1; i <= limit; ++i) {
    const double u = uniform();
    ExposureRecord record = ShadowScore(static_cast<uint64_t>(i), static_cast<uint64_t>(i));
    record.kind = ExposureKind::kDone;
    record.finish = kEos;
    record.grpc_status = u < worse ? kInternal : 0;
    record.reference_status = u >= worse && u < worse + better ? kInternal : 0;
    builder.Add(record);
    if (i % 20 != 0) continue;
    const NonInferiority verdict = builder.Decide(kCanary).verdict;
    if (verdict != NonInferiority::kUndecided) return {i, verdict};
  }
  return {limit + 1, NonInferiority::kUndecided};
}

}  // namespace vernier::testing
