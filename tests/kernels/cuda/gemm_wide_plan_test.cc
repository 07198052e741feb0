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

TEST(GemmWidePlanTest, TilesCoverEveryOutputAndRow) {
  for (const PackedEncoding encoding : {PackedEncoding::kNf4, PackedEncoding::kInt8}) {
    for (const int rows : {1, 17, 64, 65, 128, 129, 2048, 8192}) {
      for (const int outputs : {1, 250, 256, 576, 6144, 28672}) {
        for (const int inputs : {64, 576, 960, 4096, 14336}) {
          const GemmPlan plan = PlanWide(Problem(rows, outputs, inputs, encoding));
          ASSERT_EQ(plan.kernel, GemmKernel::kWide);
          EXPECT_NE(std::find(std::begin(kWideTokens), std::end(kWideTokens), plan.tile_tokens),
                    std::end(kWideTokens));
          const int row_tiles = (outputs + kTileOutputs - 1) / kTileOutputs;
          const int token_tiles = (rows + plan.tile_tokens - 1) / plan.tile_tokens;
          EXPECT_EQ(plan.clusters, row_tiles * token_tiles);
          EXPECT_GE(plan.cluster, 1);
          EXPECT_LE(plan.cluster, kMaxWideCluster);
        }
      }
    }
  }
}

TEST(GemmWidePlanTest, EveryBlockOfAClusterHasColumns) {
  const GemmProblem problem = Problem(32, 4096, 3 * 64, PackedEncoding::kNf4);
  for (int cluster = 2; cluster <= kMaxWideCluster; ++cluster) {
    EXPECT_EQ(PlanWide(problem, 32, cluster).cluster, 0) << cluster;
  }
  EXPECT_EQ(PlanWide(problem, 32, 1).cluster, 1);
  EXPECT_EQ(PlanWide(problem).cluster, 1);
}

TEST(GemmWidePlanTest, FewOutputsAreSharedAndManyAreNot) {
  EXPECT_GT(PlanWide(Problem(32, 4096, 14336, PackedEncoding::kNf4)).cluster, 1);
  EXPECT_EQ(PlanWide(Problem(32, 28672, 4096, PackedEncoding::kNf4)).cluster, 1);
  EXPECT_EQ(PlanWide(Problem(8192, 4096, 4096, PackedEncoding::kInt8)).cluster, 1);
}

TEST(GemmWidePlanTest, ATileGrowsWithTheRows) {
  int last = 0;
  for (const int rows : {16, 32, 64, 2048}) {
    const int tokens = PlanWide(Problem(rows, 28672, 4096, PackedEncoding::kNf4)).tile_tokens;
    EXPECT_GE(tokens, last) << rows;
    last = tokens;
  }
  EXPECT_EQ(last, 128);
}

}  // namespace
}  // namespace vernier::cuda
