// The real scheduler under seeded random traffic, its invariants checked after every step.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <tuple>
#include <vector>

#include "tests/simulation/simulation.h"

namespace vernier::simulation {
namespace {

// Each at both planning depths.
std::vector<SimulationOptions> Scenarios() {
  return {
      {.name = "Roomy",
       .limits = {.kv_blocks = 400, .max_context = 256},
       .traffic = {.longest_prompt = 160, .longest_output = 90}},
      {.name = "PoolPressure",
       .limits = {.kv_blocks = 17, .max_context = 256, .max_preemptions = 1 << 20},
       .traffic = {.longest_prompt = 60, .longest_output = 190, .ends = 8}},
      {.name = "PreemptionLimit",
       .limits = {.kv_blocks = 18, .max_context = 256, .max_preemptions = 1},
       .traffic = {.longest_prompt = 40, .longest_output = 200, .ends = 5}},
      {.name = "SmallSteps",
       .limits = {.kv_blocks = 60, .max_context = 128, .step_tokens = 5, .max_logit_rows = 2},
       .traffic = {.max_live = 10, .prompt_logprobs = 40}},
      {.name = "OneAtATime",
       .limits = {.kv_blocks = 8,
                  .max_context = 128,
                  .step_tokens = 1,
                  .max_logit_rows = 1,
                  .max_sequences = 1},
       .traffic = {.max_live = 5, .longest_prompt = 30, .longest_output = 20}},
      {.name = "FewSlots",
       .limits = {.kv_blocks = 100, .max_context = 128, .max_sequences = 3},
       .traffic = {.low = 60, .ends = 40}},
      {.name = "Compares",
       .limits = {.kv_blocks = 16, .max_context = 256, .step_tokens = 48, .max_logit_rows = 16},
       .traffic = {.longest_prompt = 255, .low = 50, .scores = 80, .paired = 80}},
      {.name = "NoPrefixCache",
       .limits = {.kv_blocks = 40, .max_context = 256, .prefix_cache = false},
       .traffic = {.longest_output = 190}},
      {.name = "OftenAlike",
       .limits = {.kv_blocks = 300, .max_context = 512, .step_tokens = 64},
       .traffic = {.longest_prompt = 400, .longest_output = 40, .alike = 95}},
      {.name = "Guarantees",
       .limits = {.kv_blocks = 30,
                  .max_context = 128,
                  .max_preemptions = 1 << 20,
                  .guaranteed_blocks = {3, 8, 5}},
       .traffic = {.longest_prompt = 60, .longest_output = 60}},
      {.name = "ClockJumps",
       .limits = {.kv_blocks = 40,
                  .max_context = 256,
                  .inter_token_goal = absl::Milliseconds(50),
                  .aging = absl::Seconds(30)},
       .traffic = {.low = 50, .ends = 40},
       .clock_jumps = 3},
      {.name = "LongPrompts",
       .limits = {.kv_blocks = 80, .max_context = 1024, .step_tokens = 64},
       .traffic = {.arrivals = 10, .max_live = 8, .longest_prompt = 900, .longest_output = 30}},
  };
}

constexpr int64_t kSteps = 15'000;  // of each scenario and depth: 240,000 in all

class SchedulerSimulationTest : public testing::TestWithParam<std::tuple<int, int>> {};

// VERNIER_SIMULATION_SEED, for runs over other seeds; a failure names the one it had.
uint64_t BaseSeed() {
  const char* seed = std::getenv("VERNIER_SIMULATION_SEED");
  return seed == nullptr ? 0 : std::strtoull(seed, nullptr, 10);
}

SimulationOptions OptionsOf(const std::tuple<int, int>& param) {
  SimulationOptions options = Scenarios()[static_cast<size_t>(std::get<0>(param))];
  options.planning_depth = std::get<1>(param);
  options.seed = BaseSeed() + static_cast<uint64_t>(1000 * std::get<0>(param) + std::get<1>(param));
  return options;
}

std::string NameOf(const testing::TestParamInfo<std::tuple<int, int>>& info) {
  const SimulationOptions options = OptionsOf(info.param);
  return options.name + "Depth" + std::to_string(options.planning_depth);
}

TEST_P(SchedulerSimulationTest, KeepsItsInvariants) {
  const SimulationOptions options = OptionsOf(GetParam());
  Simulation simulation(options);
  simulation.Run(kSteps);
  if (HasFailure()) return;
  simulation.Finish();
  const SimulationCounts& counts = simulation.counts();
  RecordProperty("requests", static_cast<int>(counts.requests));
  RecordProperty("preemptions", static_cast<int>(counts.preemptions));
  // The run reached what it is for.
  EXPECT_GE(counts.steps, kSteps);
  EXPECT_GT(counts.Ended(FinishReason::kLength) + counts.Ended(FinishReason::kEos), 0);
  EXPECT_GT(counts.Ended(FinishReason::kStop), 0);
  EXPECT_GT(counts.Ended(FinishReason::kCancelled), 0);
  EXPECT_GT(counts.Ended(FinishReason::kDeadline), 0);
  EXPECT_GT(counts.Ended(FinishReason::kTimeLimit), 0);
  EXPECT_GT(counts.paired_steps, 0);
  // Behind a jump everyone has aged.
  if (options.clock_jumps == 0) {
    EXPECT_GT(counts.low_steps, 0);
  }
  if (options.name == "OftenAlike") {
    EXPECT_GT(counts.cached_tokens, counts.requests * 16);
  }
  if (options.name == "NoPrefixCache") {
    EXPECT_EQ(counts.cached_tokens, 0);
  }
  if (options.name == "PoolPressure") {
    EXPECT_GT(counts.preemptions, 100);
    EXPECT_EQ(counts.Ended(FinishReason::kError), 0);
  }
  if (options.name == "PreemptionLimit") {
    EXPECT_GT(counts.Ended(FinishReason::kError), 0);
  }
}

// F28 and F30: a client's end in every step of a run, and so in every phase of its requests.
TEST(SchedulerSimulationPhaseTest, AClientsEndFreesEverythingInOneTurnWhateverThePhase) {
  const EndReason reasons[] = {EndReason::kCancelled, EndReason::kDeadline,
                               EndReason::kSlowConsumer};
  int64_t ended_in[kNumPhases] = {};
  for (const int depth : {1, 2}) {
    for (int64_t steps = 1; steps < 160; ++steps) {
      SimulationOptions options = Scenarios()[1];  // PoolPressure
      options.limits.step_tokens = 24;
      options.planning_depth = depth;
      options.seed = BaseSeed() + 7;
      Simulation simulation(options);
      simulation.Run(steps);
      simulation.EndEveryClient(reasons[steps % 3]);
      simulation.Finish();
      for (int phase = 0; phase < kNumPhases; ++phase) {
        ended_in[phase] += simulation.counts().ended_in[phase];
      }
      if (HasFailure()) return;
    }
  }
  for (int phase = 0; phase < kNumPhases; ++phase) EXPECT_GT(ended_in[phase], 20) << phase;
}

TEST_P(SchedulerSimulationTest, StopsInMidStepWithOneEndEach) {
  SimulationOptions options = OptionsOf(GetParam());
  for (int64_t steps = 1; steps < 200; steps += 23) {
    options.seed += 17;
    Simulation simulation(options);
    simulation.Run(steps);
    simulation.EndAll();
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Scenarios, SchedulerSimulationTest,
                         testing::Combine(testing::Range(0, static_cast<int>(Scenarios().size())),
                                          testing::Values(1, 2)),
                         NameOf);

}  // namespace
}  // namespace vernier::simulation
