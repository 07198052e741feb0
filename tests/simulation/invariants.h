// The invariants of engine/README.md as checks of a scheduler between two of its calls.
//
// Each reports through GoogleTest; the caller says which seed and step.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <utility>

#include "engine/make_batch.h"
#include "engine/scheduler.h"

namespace vernier::simulation {

// 1: a block is free, or its count equals the number of tables that hold it.
void CheckPool(const Scheduler& scheduler);

// 2: `plan`, just made, is within `limits`; one class and one group; no table is shorter than what
// is planned; every sequence's rows follow those before. And the low class runs only when no
// sequence of the normal class can.
void CheckPlan(const Scheduler& scheduler, const StepPlan& plan, const SchedulerLimits& limits);

// MakeBatch's arrays are the plan: each row's slot lies in its sequence's table, once.
void CheckArrays(const StepPlan& plan, const StepArrays& arrays);

// 8: every block that the launched step may write still belongs to the sequence it was planned for.
void CheckInFlight(const StepPlan& plan, const StepArrays& arrays);

// First in, first out within a class, variant and tenant: nothing was admitted past an older
// sequence that waits.
class AdmissionOrder {
 public:
  void BeforePlan(const Scheduler& scheduler);
  void AfterPlan(const Scheduler& scheduler) const;

 private:
  std::set<uint64_t> running_;  // arrivals
};

// No group of the normal class that can run is passed over for longer than the others' shares
// explain.
class FairTurns {
 public:
  explicit FairTurns(const SchedulerLimits& limits) : limits_(limits) {}
  void AfterPlan(const Scheduler& scheduler, const StepPlan& plan);

 private:
  const SchedulerLimits limits_;
  std::map<std::pair<int, int>, int64_t> passed_over_;  // steps, by group
};

}  // namespace vernier::simulation
