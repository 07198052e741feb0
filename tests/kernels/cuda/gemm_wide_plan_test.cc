#include "kernels/cuda/gemm_wide_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <random>
#include <utility>
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

// The warps of a block of threads that fill and read a ring of stages, a step of one at a time: the
// waits of gemm_wide.cu with its barriers, whose phases a wait tells apart by their parity alone.
class Ring {
 public:
  static constexpr int kReaders = 2;
  static constexpr int kWarps = kCopyingWarps + kReaders;

  // `stage_blocks` of x in each of all stages; the weights of the first `eager` are there.
  Ring(int ring, int eager, std::vector<int> stage_blocks)
      : ring_(ring),
        eager_(eager),
        stage_blocks_(std::move(stage_blocks)),
        brought_(stage_blocks_.size()),
        left_(stage_blocks_.size()),
        filled_(ring),
        emptied_(ring) {
    for (int i = 0; i < std::min(eager_, stages()); ++i) Bring(i);
  }

  // False where the warp waits or is done.
  bool Step(int warp) {
    const int i = at_[warp];
    return i < stages() && (warp < kCopyingWarps ? Copy(warp, i) : Read(warp, i));
  }
  bool done() const {
    return std::all_of(std::begin(at_), std::end(at_), [&](int i) { return i == stages(); });
  }

 private:
  int stages() const { return static_cast<int>(stage_blocks_.size()); }
  static bool Passed(int phase, int parity) { return phase % 2 != parity; }

  bool Copy(int warp, int i) {
    const WideCopies copies = CopiesOf(warp, i, eager_, stage_blocks_[i]);
    if (copies.any() && !Passed(emptied_[i % ring_], (i / ring_ + 1) % 2)) return false;
    if (copies.weight) Bring(i);
    if (copies.x) Bring(i);
    ++at_[warp];
    return true;
  }
  void Bring(int i) {
    EXPECT_TRUE(i < ring_ || left_[i - ring_] == kReaders) << "over what is still read";
    if (++brought_[i] == 1 + stage_blocks_[i]) ++filled_[i % ring_];
  }
  bool Read(int warp, int i) {
    if (!Passed(filled_[i % ring_], i / ring_ % 2)) return false;
    EXPECT_EQ(brought_[i], 1 + stage_blocks_[i]) << "read before it is there";
    if (++left_[i] == kReaders) ++emptied_[i % ring_];
    ++at_[warp];
    return true;
  }

  int ring_, eager_;
  std::vector<int> stage_blocks_, brought_, left_;
  std::vector<int> filled_, emptied_;  // phases that are over
  int at_[kWarps] = {};
};

// Rings with stages of one, two and four blocks, pieces with odd ends among them.
template <class Body>
void ForEachRing(Body body) {
  for (const int most : {1, 2, 4}) {
    for (const std::vector<int>& pieces :
         {std::vector<int>{1}, {7}, {40}, {5, 9, 3}, {1, 1, 1, 1, 1}}) {
      std::vector<int> stage_blocks;
      for (const int blocks : pieces) {
        for (int left = blocks; left > 0; left -= most) {
          stage_blocks.push_back(std::min(left, most));
        }
      }
      for (const int ring : {3, 4, 6}) {
        for (int eager = 1; eager <= ring; ++eager) {
          SCOPED_TRACE(testing::Message()
                       << "ring " << ring << ", eager " << eager << ", stages of " << most << ", "
                       << stage_blocks.size() << " of them");
          body([&] { return Ring(ring, eager, stage_blocks); });
        }
      }
    }
  }
}

TEST(GemmWidePlanTest, AWarpThatIsAlwaysLateKeepsNobodyWaitingForEver) {
  ForEachRing([](auto make) {
    for (int late = 0; late < Ring::kWarps; ++late) {
      Ring ring = make();
      for (bool goes_on = true; goes_on;) {
        goes_on = false;
        for (int warp = 0; warp < Ring::kWarps; ++warp) {
          while (warp != late && ring.Step(warp)) goes_on = true;
        }
        // The others wait, or are done.
        if (!goes_on) goes_on = ring.Step(late);
      }
      EXPECT_TRUE(ring.done()) << "warp " << late << " late";
    }
  });
}

TEST(GemmWidePlanTest, WarpsInAnyOrderEnd) {
  ForEachRing([](auto make) {
    std::mt19937 random(1);
    for (int order = 0; order < 20; ++order) {
      Ring ring = make();
      for (int misses = 0; misses < 100 * Ring::kWarps;) {
        const auto warp = static_cast<int>(random() % Ring::kWarps);
        int steps = static_cast<int>(random() % 8);
        ++misses;
        while (steps-- > 0 && ring.Step(warp)) misses = 0;
      }
      EXPECT_TRUE(ring.done());
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
