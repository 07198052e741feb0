// The engine's loop around the real scheduler, on a virtual clock and a device of hashes.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/scheduler.h"
#include "engine/step_runner.h"
#include "tests/simulation/client.h"
#include "tests/simulation/hash_device.h"
#include "tests/simulation/invariants.h"
#include "tests/simulation/traffic.h"

namespace vernier::simulation {

struct SimulationOptions {
  std::string name;
  SchedulerLimits limits;
  TrafficMix traffic;
  int planning_depth = 1;
  uint64_t seed = 0;
  // Per cent of turns before which the clock jumps, by up to an hour: a process that was stopped.
  int clock_jumps = 0;
};

// Where a sequence is when it is ended from outside.
enum Phase { kWaiting, kPreempted, kInPrompt, kInText, kNumPhases };

// What happened, so that a test can show that the run reached what it is for.
struct SimulationCounts {
  int64_t steps = 0;
  int64_t requests = 0;
  int64_t preemptions = 0;
  int64_t paired_steps = 0;
  int64_t low_steps = 0;
  int64_t cached_tokens = 0;
  int64_t ended_in[kNumPhases] = {};  // by EndEveryClient
  int64_t ended[16] = {};             // by FinishReason
  int64_t Ended(FinishReason reason) const { return ended[static_cast<int>(reason)]; }
};

class Simulation {
 public:
  explicit Simulation(const SimulationOptions& options);

  // Runs until `steps` more steps were launched, with traffic; stops at the first failure.
  void Run(int64_t steps);
  // No more traffic: everyone must come to an end, and everything be given back.
  void Finish();
  // Ends every client's request from outside; one turn later they must have ended.
  void EndEveryClient(EndReason reason);
  // Ends everyone from outside, as the engine does when it stops, whatever is in flight.
  void EndAll();

  const SimulationCounts& counts() const { return counts_; }

 private:
  void Arrive();
  void CancelSome();
  void Iterate();
  void Launch(Step* step);
  void Complete(Step* step);
  void FinishEnded();

  const SimulationOptions options_;
  std::mt19937_64 random_;
  absl::Duration now_ = absl::Seconds(1);
  std::shared_ptr<AdmissionLedger> ledger_;
  Scheduler scheduler_;
  HashDevice device_;
  Step steps_[2];
  Step* running_ = nullptr;
  AdmissionOrder admission_order_;
  FairTurns fair_turns_;
  std::vector<std::shared_ptr<Client>> clients_;  // alive
  int64_t ended_now_ = 0;                         // by the last FinishEnded calls
  SimulationCounts counts_;
};

}  // namespace vernier::simulation
