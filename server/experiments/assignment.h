// What an experiment is to a request: which arm its unit belongs to, and why, or why none.
//
// Pure: the same plan, unit and facts give the same answer on every machine, so a client can
// compute it offline. Nothing here knows what an arm's variant is made of.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/experiments/bucketing.h"

namespace vernier {

struct Arm {
  std::string name;
  std::string variant;
  double weight = 0;  // of all arms; they sum to 1
};

// Predicates on what is known before an answer is made; all must hold.
struct Targeting {
  std::vector<std::string> tenants;  // empty: every tenant
  int64_t min_prompt_tokens = 0;
  int64_t max_prompt_tokens = INT64_MAX;
};

struct ExperimentPlan {
  std::string id;
  std::string salt;
  int hash_version = 3;
  std::string layer;           // empty: none, every unit may take part
  BucketRange slots = {0, 1};  // of the layer; experiments of a layer have disjoint ones
  std::vector<Arm> arms;
  double coverage = 1;  // the ramp: a wider one takes units in and moves none
  Targeting targeting;
  // A unit keeps the arm that it was given under this version; raising it draws anew, and raising
  // the least one leaves out whoever has an arm of before.
  int bucket_version = 0;
  int min_bucket_version = 0;
};

// An arm that a unit was given earlier.
struct StickyArm {
  int bucket_version = 0;
  std::string arm;
};

struct UnitFacts {
  absl::string_view tenant;
  int64_t prompt_tokens = 0;
};

enum class AssignmentReason : uint8_t {
  kAssigned,        // by its bucket
  kPinned,          // it has this arm already
  kNoUnit,          // the request names no unit
  kOutsideSlots,    // another experiment's part of the layer, or nobody's
  kNotTargeted,     // tenant or prompt length
  kBlocked,         // it has an arm of a version below the least
  kOutsideCoverage  // the ramp has not reached it
};
// "assigned", "pinned", "no_unit", ...
const char* AssignmentReasonName(AssignmentReason reason);

struct Assignment {
  int arm = -1;  // index in the plan's arms; -1: takes no part
  AssignmentReason reason = AssignmentReason::kNoUnit;
  std::optional<double> bucket;  // where it was computed
};

// The arms' ranges of buckets, for Assign: the same for every unit.
std::vector<BucketRange> RangesOf(const ExperimentPlan& plan);

// `ranges` are RangesOf(plan). `unit` is the id that the experiment splits by, empty where the
// request has none; `sticky` are the arms that the unit has of this experiment. REQUIRES: a hash
// version that exists.
Assignment Assign(const ExperimentPlan& plan, std::span<const BucketRange> ranges,
                  absl::string_view unit, const UnitFacts& facts,
                  std::span<const StickyArm> sticky);

}  // namespace vernier
