// Plans, records and random numbers that several tests of experiments share.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>

#include "server/experiments/assignment.h"
#include "server/experiments/exposure_record.h"
#include "server/experiments/feedback_join.h"

namespace vernier::testing {

inline constexpr uint32_t kExperiment = 7;
inline constexpr uint8_t kControl = 0, kCanary = 1;
inline constexpr uint8_t kInternal = 13, kResourceExhausted = 8, kCancelled = 1;  // gRPC
inline constexpr uint8_t kEos = 2;                                                // FinishReason

// Uniform in [0, 1), the same on every machine.
class Uniform {
 public:
  explicit Uniform(uint64_t seed) : generator_(seed) {}
  double operator()() { return static_cast<double>(generator_() >> 11) * 0x1p-53; }
  uint64_t Below(uint64_t end) {
    return static_cast<uint64_t>((*this)() * static_cast<double>(end));
  }
  double Exponential(double mean) { return -mean * std::log1p(-(*this)()); }

 private:
  std::mt19937_64 generator_;
};

inline ExperimentPlan CanaryPlan() {
  ExperimentPlan plan{.id = "nf4-canary", .salt = "nf4-canary"};
  plan.arms = {{"control", "fp16", 0.5}, {"canary", "nf4", 0.5}};
  return plan;
}

inline ExposureId IdOf(uint64_t number) {
  ExposureId id{};
  std::memcpy(id.data(), &number, sizeof(number));
  id.back() = 1;  // never all zeros: that is no request
  return id;
}

// Request `number` of an arm, bound to the variant of the same number.
inline ExposureRecord Bound(uint64_t number, uint8_t arm, uint64_t unit) {
  ExposureRecord record;
  record.experiment = kExperiment;
  record.request_id = IdOf(number);
  record.unit_hash = unit;
  record.arm = record.assigned = record.served = arm;
  record.prompt_tokens = 100;
  return record;
}

// Its end, well.
inline ExposureRecord Done(uint64_t number, uint8_t arm, uint64_t unit, uint32_t tokens = 100) {
  ExposureRecord record = Bound(number, arm, unit);
  record.kind = ExposureKind::kDone;
  record.finish = kEos;
  record.output_tokens = tokens;
  return record;
}

// A copy of control's request `number` under the canary, scored.
inline ExposureRecord ShadowScore(uint64_t number, uint64_t unit) {
  ExposureRecord record = Bound(number, kCanary, unit);
  record.kind = ExposureKind::kScored;
  record.reason = ServedReason::kShadow;
  record.output_tokens = record.reference_tokens = record.score_tokens = 100;
  record.reference_arm = kControl;
  record.score_kl = 0.01f;
  record.score_top1 = 0.97f;
  return record;
}

}  // namespace vernier::testing
