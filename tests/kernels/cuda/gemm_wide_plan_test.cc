#include "kernels/cuda/gemm_wide_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <vector>

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

TEST(GemmWidePlanTest, AFixedPlanCutsColumnsAtTheSamePlacesForEveryNumberOfRows) {
  for (const PackedEncoding encoding : {PackedEncoding::kNf4, PackedEncoding::kInt8}) {
    for (const int outputs : {1, 250, 576, 6144, 28672, 128256}) {
      for (const int inputs : {64, 576, 960, 4096, 14336}) {
        GemmProblem problem = Problem(1, outputs, inputs, encoding);
        const WideSchedule one = ScheduleOf(problem, PlanFixed(problem));
        for (problem.rows = 2; problem.rows <= FixedTokens(problem); ++problem.rows) {
          const GemmPlan plan = PlanFixed(problem);
          ASSERT_TRUE(Exists(plan));
          ASSERT_GE(plan.tile_tokens, problem.rows);
          ASSERT_EQ(plan.slices, 1);
          const WideSchedule schedule = ScheduleOf(problem, plan);
          ASSERT_EQ(schedule.row_tiles, one.row_tiles);
          ASSERT_EQ(schedule.token_tiles, 1);
          ASSERT_EQ(schedule.pairs, one.pairs);
          ASSERT_EQ(schedule.first_left, one.first_left);
          ASSERT_EQ(schedule.units, one.units);
          ASSERT_EQ(schedule.sharers, one.sharers);
        }
      }
    }
  }
}

// Problems of every tile: fewer tiles than pairs, turns of whole ones, lines of what is left, and
// fewer columns than pairs.
template <class Body>
void ForEachSchedule(Body body) {
  for (const Activation activation : {Activation::kF16, Activation::kInt8}) {
    for (const WideTile& tile : kWideTiles) {
      for (const int rows : {1, 33, 300, 2048, 8192}) {
        for (const int outputs : {1, 576, 6144, 20000, 28672}) {
          for (const int inputs : {64, 192, 576, 4096}) {
            GemmProblem problem = Problem(rows, outputs, inputs, PackedEncoding::kInt8);
            problem.activation = activation;
            SCOPED_TRACE(testing::Message() << rows << " x " << outputs << " x " << inputs << " by "
                                            << tile.tokens << ", " << tile.slices);
            for (const LineShares shares : kLineShares) {
              body(problem, ScheduleOf(problem, PlanWide(problem, tile, shares)));
              if (testing::Test::HasFatalFailure()) return;
            }
          }
        }
      }
    }
  }
}

int TilesOf(const WideSchedule& schedule) { return schedule.row_tiles * schedule.token_tiles; }

TEST(GemmWidePlanTest, PiecesCoverEveryBlockOfColumnsOnce) {
  ForEachSchedule([](const GemmProblem& problem, const WideSchedule& schedule) {
    ASSERT_EQ(schedule.tile_units,
              (problem.inputs + BlockCols(problem.activation) - 1) / BlockCols(problem.activation));
    std::vector<int> times(static_cast<size_t>(TilesOf(schedule)) * schedule.tile_units);
    for (int pair = 0; pair < schedule.pairs; ++pair) {
      for (WideRun run(schedule, pair); !run.done();) {
        const WidePiece piece = run.Next();
        ASSERT_GT(piece.blocks, 0);
        for (int i = 0; i < piece.blocks; ++i) {
          ++times[piece.tile * schedule.tile_units + piece.first_block + i];
        }
      }
    }
    ASSERT_TRUE(std::all_of(times.begin(), times.end(), [](int count) { return count == 1; }));
  });
}

TEST(GemmWidePlanTest, EveryTileLiesAtAPlaceOfItsOwn) {
  ForEachSchedule([](const GemmProblem&, const WideSchedule& schedule) {
    std::vector<bool> taken(TilesOf(schedule));
    for (int tile = 0; tile < TilesOf(schedule); ++tile) {
      const TilePlace at = schedule.PlaceOf(tile);
      ASSERT_TRUE(at.row >= 0 && at.row < schedule.row_tiles);
      ASSERT_TRUE(at.token >= 0 && at.token < schedule.token_tiles);
      ASSERT_FALSE(taken[at.row * schedule.token_tiles + at.token]);
      taken[at.row * schedule.token_tiles + at.token] = true;
    }
  });
}

// The pair with a tile's last columns waits for as many parts as there are pairs from the first one
// to itself, and none of them waits before it has left its own.
TEST(GemmWidePlanTest, PartsAreLeftByThePairsThatAreWaitedFor) {
  ForEachSchedule([](const GemmProblem&, const WideSchedule& schedule) {
    std::vector<int> parts(TilesOf(schedule));
    for (int pair = 0; pair < schedule.pairs; ++pair) {
      bool waits = false;
      for (WideRun run(schedule, pair); !run.done();) {
        const WidePiece piece = run.Next();
        if (piece.blocks == schedule.tile_units) continue;
        ASSERT_FALSE(waits);  // a pair has one tile to wait for, and leaves parts before
        ++parts[piece.tile];
        ASSERT_GE(pair, schedule.first_pair_of(piece.tile));
        ASSERT_LE(pair, schedule.last_pair_of(piece.tile));
        waits = piece.first_block + piece.blocks == schedule.tile_units;
        ASSERT_EQ(waits, pair == schedule.last_pair_of(piece.tile));
      }
    }
    for (int tile = schedule.first_left; tile < TilesOf(schedule); ++tile) {
      const int pairs = schedule.last_pair_of(tile) - schedule.first_pair_of(tile) + 1;
      ASSERT_EQ(parts[tile], pairs == 1 ? 0 : pairs);
    }
  });
}

TEST(GemmWidePlanTest, RunsOfTheLineAreEven) {
  ForEachSchedule([](const GemmProblem&, const WideSchedule& schedule) {
    for (int pair = 0; pair < schedule.pairs; ++pair) {
      const int run = schedule.first_unit(pair + 1) - schedule.first_unit(pair);
      const int share = schedule.units / schedule.sharers;
      ASSERT_TRUE(pair < schedule.sharers ? run == share || run == share + 1 : run == 0);
    }
  });
}

TEST(GemmWidePlanTest, TilesThatAreCutAlikeGiveNobodyTwoOfThem) {
  for (const WideTile& tile : kWideTiles) {
    for (const int outputs : {256, 4096, 6144, 28672}) {
      const GemmProblem problem = Problem(256, outputs, 4096, PackedEncoding::kInt8);
      const GemmPlan plan = PlanWide(problem, tile, LineShares::kCutTiles);
      const WideSchedule schedule = ScheduleOf(problem, plan);
      for (int pair = 0; pair < schedule.pairs; ++pair) {
        int of_the_line = 0;
        for (WideRun run(schedule, pair); !run.done();) {
          if (run.Next().tile >= schedule.first_left) ++of_the_line;
        }
        EXPECT_LE(of_the_line, 1);
      }
    }
  }
}

TEST(GemmWidePlanTest, TilesThatNearlyAllPairsAreBusyWithStayWhole) {
  for (const int rows : {64, 128}) {
    const GemmProblem problem = Problem(rows, 4096, 4096, PackedEncoding::kNf4);
    const WideSchedule schedule =
        ScheduleOf(problem, PlanWide(problem, {rows / 2, 4, 4}, LineShares::kCutTiles));
    EXPECT_EQ(schedule.pairs, 64);
    for (int pair = 0; pair < schedule.pairs; ++pair) {
      WideRun run(schedule, pair);
      EXPECT_EQ(run.Next().blocks, schedule.tile_units);
      EXPECT_TRUE(run.done());
    }
  }
}

// 36 tiles of 64 units for 66 pairs: whole, nearly half of the pairs would be idle.
TEST(GemmWidePlanTest, AFixedPlanKeepsMostPairsBusy) {
  const GemmProblem problem = Problem(64, 36 * 512, 4096, PackedEncoding::kNf4);
  const WideSchedule schedule = ScheduleOf(problem, PlanFixed(problem));
  for (int pair = 0; pair < schedule.pairs; ++pair) {
    int units = 0;
    for (WideRun run(schedule, pair); !run.done();) units += run.Next().blocks;
    EXPECT_LE(units, 36 * 64 / 66 + 1);
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
