#include "kernels/cuda/gemm_wide_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>

namespace vernier::cuda {
namespace {

GemmProblem Problem(int rows, int outputs, int inputs, PackedEncoding encoding) {
  GemmProblem problem;
  problem.encoding = encoding;
  problem.rows = rows;
  problem.outputs = outputs;
  problem.inputs = inputs;
  return problem;
}

bool Exists(const GemmPlan& plan) {
  return std::any_of(std::begin(kWideTiles), std::end(kWideTiles), [&](const WideTile& tile) {
    return tile.tokens == plan.tile_tokens && tile.slices == plan.slices;
  });
}

TEST(GemmWidePlanTest, PlansAreOfTilesThatThereAre) {
  for (const PackedEncoding encoding : {PackedEncoding::kNf4, PackedEncoding::kInt8}) {
    for (const int rows : {1, 17, 64, 65, 128, 129, 2048, 8192}) {
      for (const int outputs : {1, 250, 256, 576, 6144, 28672}) {
        for (const int inputs : {64, 576, 960, 4096, 14336}) {
          const GemmPlan plan = PlanWide(Problem(rows, outputs, inputs, encoding));
          ASSERT_EQ(plan.kernel, GemmKernel::kWide);
          EXPECT_TRUE(Exists(plan));
          EXPECT_EQ(plan.cluster, kPairBlocks);
          EXPECT_GE(plan.clusters, 1);
          EXPECT_LE(plan.clusters, kMaxPairs);
        }
      }
    }
  }
}

TEST(GemmWidePlanTest, RunsCoverEveryUnitOnceAndAreEven) {
  for (const WideTile& tile : kWideTiles) {
    for (const int rows : {1, 64, 300, 8192}) {
      for (const int outputs : {1, 576, 6144, 28672}) {
        for (const int inputs : {64, 576, 4096}) {
          const GemmProblem problem = Problem(rows, outputs, inputs, PackedEncoding::kNf4);
          const WideSchedule schedule = ScheduleOf(problem, PlanWide(problem, tile));
          const int tiles = (outputs + PairOutputs(tile) - 1) / PairOutputs(tile) *
                            ((rows + tile.tokens - 1) / tile.tokens);
          ASSERT_EQ(schedule.units, tiles * (inputs / 64));
          EXPECT_EQ(schedule.first_unit(0), 0);
          EXPECT_EQ(schedule.first_unit(schedule.pairs), schedule.units);
          for (int pair = 0; pair < schedule.pairs; ++pair) {
            const int first = schedule.first_unit(pair);
            const int last = schedule.first_unit(pair + 1) - 1;
            ASSERT_LE(first, last);
            EXPECT_LE(last - first, schedule.units / schedule.pairs);
            EXPECT_EQ(schedule.pair_of(first), pair);
            EXPECT_EQ(schedule.pair_of(last), pair);
          }
        }
      }
    }
  }
}

TEST(GemmWidePlanTest, ATileGrowsWithTheRows) {
  int last = 0;
  for (const int rows : {16, 32, 64, 2048}) {
    const int tokens = PlanWide(Problem(rows, 28672, 4096, PackedEncoding::kNf4)).tile_tokens;
    EXPECT_GE(tokens, last) << rows;
    last = tokens;
  }
  EXPECT_EQ(last, 256);
}

TEST(GemmWidePlanTest, FewOutputsAreSlicedInsideABlock) {
  EXPECT_GT(PlanWide(Problem(32, 4096, 4096, PackedEncoding::kNf4)).slices, 1);
  EXPECT_EQ(PlanWide(Problem(32, 28672, 4096, PackedEncoding::kNf4)).slices, 1);
}

}  // namespace
}  // namespace vernier::cuda
