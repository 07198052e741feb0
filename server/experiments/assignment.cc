#include "server/experiments/assignment.h"

#include <algorithm>

#include "kernels/base/check.h"

namespace vernier {
namespace {

constexpr const char* kReasonNames[] = {"assigned",        "pinned",       "no_unit",
                                        "outside_slots",   "not_targeted", "blocked",
                                        "outside_coverage"};

bool Targeted(const Targeting& targeting, const UnitFacts& facts) {
  const std::vector<std::string>& tenants = targeting.tenants;
  return (tenants.empty() ||
          std::find(tenants.begin(), tenants.end(), facts.tenant) != tenants.end()) &&
         facts.prompt_tokens >= targeting.min_prompt_tokens &&
         facts.prompt_tokens <= targeting.max_prompt_tokens;
}

// -1 where the unit has none of this version, or one that is no longer there.
int PinnedArm(const ExperimentPlan& plan, std::span<const StickyArm> sticky) {
  for (const StickyArm& held : sticky) {
    if (held.bucket_version != plan.bucket_version) continue;
    for (size_t arm = 0; arm < plan.arms.size(); ++arm) {
      if (plan.arms[arm].name == held.arm) return static_cast<int>(arm);
    }
  }
  return -1;
}

}  // namespace

const char* AssignmentReasonName(AssignmentReason reason) {
  return kReasonNames[static_cast<int>(reason)];
}

std::vector<BucketRange> RangesOf(const ExperimentPlan& plan) {
  std::vector<double> weights;
  for (const Arm& arm : plan.arms) weights.push_back(arm.weight);
  return BucketRanges(static_cast<int>(weights.size()), plan.coverage, weights);
}

Assignment Assign(const ExperimentPlan& plan, std::span<const BucketRange> ranges,
                  absl::string_view unit, const UnitFacts& facts,
                  std::span<const StickyArm> sticky) {
  using Reason = AssignmentReason;
  if (unit.empty()) return {.reason = Reason::kNoUnit};
  if (!plan.layer.empty() && !InLayerSlots(plan.layer, plan.slots, unit)) {
    return {.reason = Reason::kOutsideSlots};
  }
  if (!Targeted(plan.targeting, facts)) return {.reason = Reason::kNotTargeted};
  for (const StickyArm& held : sticky) {
    if (held.bucket_version < plan.min_bucket_version) return {.reason = Reason::kBlocked};
  }
  const std::optional<double> bucket = BucketOf(plan.salt, unit, plan.hash_version);
  VERNIER_CHECK(bucket.has_value());
  if (const int arm = PinnedArm(plan, sticky); arm >= 0) return {arm, Reason::kPinned, bucket};
  const int arm = ArmOf(*bucket, ranges);
  return {arm, arm >= 0 ? Reason::kAssigned : Reason::kOutsideCoverage, bucket};
}

}  // namespace vernier
