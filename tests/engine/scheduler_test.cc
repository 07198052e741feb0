// Single decisions of the scheduler; tests/simulation checks its invariants under random traffic.
#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace vernier {
namespace {

// Never called by the scheduler.
class NoSink : public TokenSink {
 public:
  void OnToken(const TokenEvent&) override { FAIL(); }
  void OnScores(int64_t, std::span<const ScoreResult>) override { FAIL(); }
  void OnFinish(const FinishEvent&) override { FAIL(); }
};

std::unique_ptr<Request> TextRequest(int variant, int64_t prompt_tokens, int64_t max_tokens) {
  auto request = std::make_unique<Request>();
  request->variant = variant;
  request->prompt.assign(static_cast<size_t>(prompt_tokens), 1);
  request->sampling.max_tokens = max_tokens;
  request->control = std::make_shared<RequestControl>();
  request->sink = std::make_shared<NoSink>();
  return request;
}

std::unique_ptr<Request> ScoreRequest(int variant, int64_t tokens) {
  auto request = TextRequest(variant, tokens, 0);
  request->score.emplace();
  return request;
}

class SchedulerTest : public testing::Test {
 protected:
  void Create(const SchedulerLimits& limits) { scheduler_ = std::make_unique<Scheduler>(limits); }

  Sequence* Add(std::unique_ptr<Request> request) {
    auto sequence =
        std::make_unique<Sequence>(std::move(request), arrivals_++, Now(), std::vector<int32_t>{});
    Sequence* added = sequence.get();
    scheduler_->Add(std::move(sequence));
    return added;
  }
  absl::Duration Now() const { return now_; }

  // One step at depth 1: every draw gives the token 2. Returns the plan's variant.
  int Step() {
    scheduler_->Plan(Now(), &plan_);
    Take();
    for (const PlannedRows& rows : plan_.rows) {
      if (rows.draws) rows.sequence->end = rows.sequence->Append(2);
    }
    scheduler_->Commit(plan_);
    Take();
    return plan_.variant;
  }
  void Take() {
    for (auto& sequence : scheduler_->TakeEnded()) ended_.push_back(std::move(sequence));
  }

  std::unique_ptr<Scheduler> scheduler_;
  StepPlan plan_;
  std::vector<std::unique_ptr<Sequence>> ended_;
  uint64_t arrivals_ = 0;
  absl::Duration now_ = absl::Seconds(1);
};

std::unique_ptr<Request> TextOf(const std::string& tenant, int64_t prompt_tokens,
                                int64_t max_tokens) {
  auto request = TextRequest(0, prompt_tokens, max_tokens);
  request->tenant = tenant;
  return request;
}

TEST_F(SchedulerTest, DecodeRowsComeBeforePromptsAndPromptsFillTheStep) {
  Create({.kv_blocks = 100, .max_context = 512, .step_tokens = 40});
  Sequence* decoding = Add(TextRequest(0, 3, 10));
  Step();
  Sequence* first = Add(TextRequest(0, 30, 10));
  Sequence* second = Add(TextRequest(0, 30, 10));
  Step();
  ASSERT_EQ(plan_.rows.size(), 3u);
  EXPECT_EQ(plan_.rows[0].sequence, decoding);
  EXPECT_EQ(plan_.rows[0].count, 1);
  EXPECT_EQ(plan_.rows[1].sequence, first);
  EXPECT_EQ(plan_.rows[1].count, 30);
  EXPECT_TRUE(plan_.rows[1].draws);
  EXPECT_EQ(plan_.rows[2].sequence, second);
  EXPECT_EQ(plan_.rows[2].count, 9);
  EXPECT_FALSE(plan_.rows[2].draws);
  EXPECT_EQ(plan_.DecodeRows(), 1);
}

TEST_F(SchedulerTest, ALongPromptDoesNotWaitForASlotInEveryStepOfAnotherVariantsText) {
  Create({.kv_blocks = 100, .max_context = 1024, .step_tokens = 256});
  Add(TextRequest(0, 3, 500));
  Sequence* prompt = Add(TextRequest(1, 1000, 10));
  int steps = 0;
  while (prompt->tokens.size() == 1000) {
    Step();
    ++steps;
  }
  // Four chunks; between two of them the text gets what a chunk costs, not 256 steps.
  EXPECT_LE(steps, 4 + 4 * 17);
  EXPECT_GE(steps, 4 + 3);
}

TEST_F(SchedulerTest, AGroupThatCouldNotRunIsOwedNothing) {
  Create({.kv_blocks = 100, .max_context = 512, .max_sequences = 2});
  Add(TextRequest(0, 3, 400));
  auto low = TextRequest(1, 3, 400);
  low->priority = Priority::kLow;
  Add(std::move(low));  // holds variant 1's place without a turn
  for (int i = 0; i < 200; ++i) EXPECT_EQ(Step(), 0);
  Add(TextRequest(1, 3, 100));
  std::map<int, int> turns;
  for (int i = 0; i < 20; ++i) ++turns[Step()];
  EXPECT_EQ(turns[0], 10);
  EXPECT_EQ(turns[1], 10);
}

TEST_F(SchedulerTest, ShortRequestsOneAfterAnotherDoNotStarveAnotherGroup) {
  Create({.kv_blocks = 100, .max_context = 1024, .prefix_cache = false});
  Sequence* text = Add(TextRequest(1, 3, 200));
  int steps = 0;
  for (; text->Generated() < 100 && steps < 1000; ++steps) {
    // Variant 0 has one request at a time, and is gone after each.
    if (scheduler_->sequences().size() == 1) Add(TextRequest(0, 200, 1));
    Step();
  }
  EXPECT_LE(steps, 120);
}

TEST_F(SchedulerTest, WhatAnEndedSequenceHeldIsAdmittedInTheSamePlan) {
  Create({.kv_blocks = 4, .max_context = 64});
  Sequence* running = Add(TextRequest(0, 60, 4));
  Step();
  Sequence* waiting = Add(TextRequest(0, 60, 4));
  auto control = running->request->control;
  Sequence* last = Add(TextRequest(0, 60, 4));
  Step();
  EXPECT_FALSE(waiting->Running() && last->Running());
  control->End(EndReason::kCancelled);
  waiting->request->control->End(EndReason::kCancelled);
  scheduler_->Plan(Now(), &plan_);
  ASSERT_EQ(plan_.rows.size(), 1u);
  EXPECT_EQ(plan_.rows[0].sequence, last);
  EXPECT_TRUE(scheduler_->preemptions().empty()) << "an ended sequence is no preemption";
}

TEST_F(SchedulerTest, AScoreEndsWithTheStepThatScoresItsLastToken) {
  Create({.kv_blocks = 8, .max_context = 128});
  Add(ScoreRequest(0, 40));
  Step();
  ASSERT_EQ(ended_.size(), 1u);
  EXPECT_EQ(ended_[0]->end->reason, FinishReason::kStop);
  EXPECT_TRUE(ended_[0]->end->status.ok());
  EXPECT_EQ(ended_[0]->end_seen, absl::InfiniteDuration()) << "it was not ended from outside";
}

TEST_F(SchedulerTest, AScoreOfOneTokenEndsWithoutARow) {
  Create({.kv_blocks = 8, .max_context = 128});
  Add(ScoreRequest(0, 1));
  Step();
  EXPECT_TRUE(plan_.empty());
  ASSERT_EQ(ended_.size(), 1u);
  EXPECT_EQ(ended_[0]->end->reason, FinishReason::kStop);
  EXPECT_TRUE(scheduler_->idle());
}

TEST_F(SchedulerTest, TheNewestIsPreemptedAndKeepsWhatItDrew) {
  Create({.kv_blocks = 4, .max_context = 64});
  Sequence* old = Add(TextRequest(0, 31, 40));
  Sequence* young = Add(TextRequest(0, 31, 40));
  int64_t drawn = 0;
  while (young->preemptions == 0) {
    drawn = young->Generated();
    Step();
    Add(TextRequest(0, 1, 1));  // someone always wants a block
  }
  EXPECT_EQ(old->preemptions, 0);
  EXPECT_EQ(young->Generated(), drawn);
  EXPECT_EQ(young->computed, 0);
}

TEST_F(SchedulerTest, TooManyPreemptionsAreResourceExhausted) {
  Create({.kv_blocks = 4, .max_context = 64, .max_preemptions = 0});
  Add(TextRequest(0, 31, 40));
  Sequence* young = Add(TextRequest(0, 31, 40));
  const auto sink = young->request->sink;
  while (ended_.empty()) {
    Step();
    Add(TextRequest(0, 1, 1));
    ended_.erase(std::remove_if(ended_.begin(), ended_.end(),
                                [](const auto& s) { return s->prompt_tokens == 1; }),
                 ended_.end());
  }
  EXPECT_EQ(ended_[0]->end->reason, FinishReason::kError);
  EXPECT_EQ(ended_[0]->end->status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ended_[0]->preemptions, 1);
}

TEST_F(SchedulerTest, TheLowClassGivesItsBlocksToTheNormalOne) {
  Create({.kv_blocks = 4, .max_context = 64});
  auto request = TextRequest(0, 60, 4);
  request->priority = Priority::kLow;
  Sequence* low = Add(std::move(request));
  Step();
  ASSERT_TRUE(low->Running());
  Sequence* normal = Add(TextRequest(0, 60, 4));
  Sequence* other = Add(TextRequest(0, 30, 4));
  Step();
  EXPECT_TRUE(normal->Running());
  EXPECT_TRUE(other->Running());
  EXPECT_FALSE(low->Running());
  EXPECT_EQ(low->preemptions, 1);
}

TEST_F(SchedulerTest, TurnsFollowTheWeightsOfTheVariants) {
  Create({.kv_blocks = 100, .max_context = 1024, .weights = {1, 3}});
  Add(TextRequest(0, 3, 800));
  Add(TextRequest(1, 3, 800));
  std::map<int, int> turns;
  for (int i = 0; i < 400; ++i) ++turns[Step()];
  EXPECT_NEAR(turns[1], 300, 2);
}

TEST_F(SchedulerTest, AnExpensiveVariantGetsFewerTurns) {
  Create({.kv_blocks = 100, .max_context = 1024});
  Add(TextRequest(0, 3, 800));
  Add(TextRequest(1, 3, 800));
  std::map<int, int> turns;
  for (int i = 0; i < 400; ++i) {
    const int variant = Step();
    ++turns[variant];
    scheduler_->Observe(plan_, absl::Milliseconds(variant == 0 ? 30 : 10));
  }
  EXPECT_NEAR(turns[1], 300, 5);
}

TEST_F(SchedulerTest, ChunksKeepTheInterTokenGoalOnceAStepsCostIsKnown) {
  Create({.kv_blocks = 100,
          .max_context = 2000,
          .step_tokens = 256,
          .prefix_cache = false,
          .inter_token_goal = absl::Milliseconds(80)});
  const auto step = [&] {  // 10 ms and 1 ms a row
    Step();
    scheduler_->Observe(plan_, absl::Milliseconds(10 + plan_.Tokens()));
  };
  Add(TextRequest(0, 500, 1));  // nobody decodes: whole steps
  step();
  EXPECT_EQ(plan_.Tokens(), 256);
  step();
  Sequence* text = Add(TextRequest(0, 3, 100));
  step();
  step();  // a decode row alone
  Add(TextRequest(0, 900, 1));
  for (int i = 0; i < 5; ++i) {
    const int64_t generated = text->Generated();
    step();
    EXPECT_EQ(text->Generated(), generated + 1);
    EXPECT_LE(plan_.Tokens(), 70);
    EXPECT_GE(plan_.Tokens(), 50);
  }
  // A second variant that decodes takes its turn between two steps of the first.
  Add(TextRequest(1, 3, 100));
  for (int i = 0; i < 20; ++i) step();
  EXPECT_LE(plan_.Tokens(), 40);
}

TEST_F(SchedulerTest, AGoalThatCannotBeKeptStillLetsAPromptGetOn) {
  Create({.kv_blocks = 100, .max_context = 2000, .inter_token_goal = absl::Milliseconds(1)});
  Add(TextRequest(0, 3, 100));
  Step();
  scheduler_->Observe(plan_, absl::Seconds(1));
  Add(TextRequest(0, 500, 1));
  Step();
  EXPECT_EQ(plan_.Tokens(), 1 + kLeastChunk);
}

TEST_F(SchedulerTest, TheLowClassAgesIntoTheNormalOne) {
  Create({.kv_blocks = 100, .max_context = 512, .aging = absl::Seconds(10)});
  Add(TextRequest(0, 3, 400));
  auto request = TextRequest(0, 3, 20);
  request->priority = Priority::kLow;
  Sequence* low = Add(std::move(request));
  for (int i = 0; i < 9; ++i) {
    now_ += absl::Seconds(1);
    Step();
    EXPECT_EQ(low->Generated(), 0);
  }
  for (int i = 0; i < 5; ++i) {
    now_ += absl::Seconds(1);
    Step();
  }
  EXPECT_EQ(low->Generated(), 5);
}

TEST_F(SchedulerTest, TheTenantThatGotLeastIsNext) {
  Create({.kv_blocks = 100, .max_context = 512, .max_sequences = 2, .prefix_cache = false});
  for (int i = 0; i < 6; ++i) Add(TextOf("many", 40, 2));
  for (int i = 0; i < 6; ++i) Step();  // two at a time
  EXPECT_EQ(ended_.size(), 6u);
  for (int i = 0; i < 6; ++i) Add(TextOf("many", 40, 2));
  for (int i = 0; i < 3; ++i) Add(TextOf("few", 40, 2));
  std::map<std::string, int> first;
  for (int i = 0; i < 6; ++i) Step();
  for (size_t i = 6; i < 12; ++i) ++first[ended_[i]->request->tenant];
  EXPECT_EQ(first["few"], 3);
}

TEST_F(SchedulerTest, ATenantThatRunsNothingTakesAPlaceOfOneThatRunsSeveral) {
  Create({.kv_blocks = 100, .max_context = 512, .max_sequences = 3});
  std::vector<Sequence*> many;
  for (int i = 0; i < 4; ++i) many.push_back(Add(TextOf("many", 40, 100)));
  Step();
  Sequence* few = Add(TextOf("few", 40, 100));
  Step();
  EXPECT_TRUE(few->Running());
  EXPECT_FALSE(many[2]->Running());
  EXPECT_EQ(many[2]->Generated(), 1) << "it keeps what it drew";
  Sequence* second = Add(TextOf("few", 40, 100));
  Step();
  EXPECT_FALSE(second->Running()) << "it runs something already";
}

TEST_F(SchedulerTest, NobodyEndsForAnotherTenantsSake) {
  Create({.kv_blocks = 100, .max_context = 512, .max_sequences = 2, .max_preemptions = 2});
  Add(TextOf("many", 40, 300));
  Sequence* victim = Add(TextOf("many", 40, 300));
  for (int i = 0; i < 40; ++i) {
    Step();
    if (i % 3 == 0) Add(TextOf("few" + std::to_string(i), 40, 2));
  }
  EXPECT_LE(victim->preemptions, 2);
  EXPECT_FALSE(victim->end.has_value());
}

TEST_F(SchedulerTest, APromptThatBeginsAsOneBeforeComputesTheRestAlone) {
  Create({.kv_blocks = 100, .max_context = 512, .step_tokens = 512});
  Add(TextRequest(0, 200, 1));
  Step();
  Add(TextRequest(0, 210, 1));
  Step();
  EXPECT_EQ(plan_.rows[0].first, 192);
  EXPECT_EQ(plan_.Tokens(), 210 - 192);
  EXPECT_EQ(ended_[1]->cached_tokens, 192);
  EXPECT_EQ(ended_[0]->cached_tokens, 0);
}

TEST_F(SchedulerTest, TheLastRowOfAPromptThatIsFoundWholeIsComputed) {
  Create({.kv_blocks = 100, .max_context = 512, .step_tokens = 512});
  for (int i = 0; i < 2; ++i) {
    Add(TextRequest(0, 64, 1));
    Step();
  }
  EXPECT_EQ(plan_.rows[0].first, 32);
  EXPECT_TRUE(plan_.rows[0].draws);
}

TEST_F(SchedulerTest, APairedScoreSkipsWhatBothVariantsHave) {
  Create({.kv_blocks = 100, .max_context = 512, .step_tokens = 512});
  Add(TextRequest(0, 100, 1));
  Step();
  Add(TextRequest(1, 70, 1));
  Step();
  auto score = ScoreRequest(0, 120);
  score->score->reference_variant = 1;
  score->score->first_target = 90;
  Add(std::move(score));
  Step();
  EXPECT_EQ(plan_.rows[0].first, 64);
  EXPECT_EQ(plan_.rows[0].scored_from, 89 - 64);
}

TEST_F(SchedulerTest, WhatADeviceBrokeIsNotFound) {
  Create({.kv_blocks = 100, .max_context = 512, .step_tokens = 512});
  Add(TextRequest(0, 64, 4));
  scheduler_->Plan(Now(), &plan_);
  plan_.rows[0].sequence->end = SequenceEnd{FinishReason::kError, -1, absl::InternalError("NaN")};
  scheduler_->Commit(plan_);
  Take();
  EXPECT_EQ(scheduler_->pool().cached(), 0);
}

TEST_F(SchedulerTest, APreemptedSequenceFindsWhatNobodyTook) {
  Create({.kv_blocks = 6, .max_context = 96, .step_tokens = 96});
  auto request = TextRequest(0, 90, 4);
  request->priority = Priority::kLow;
  Sequence* low = Add(std::move(request));
  Step();
  Add(TextRequest(1, 90, 1));
  Add(TextRequest(1, 1, 1));
  Step();  // takes the low one's blocks, and one of them for good
  ASSERT_EQ(low->preemptions, 1);
  Step();
  EXPECT_TRUE(low->Running());
  EXPECT_EQ(low->found, 64);
  EXPECT_EQ(low->cached_tokens, 0);
}

TEST_F(SchedulerTest, AVariantKeepsItsGuaranteedBlocks) {
  Create({.kv_blocks = 8, .max_context = 64, .guaranteed_blocks = {0, 2}});
  for (int i = 0; i < 4; ++i) Add(TextRequest(0, 60, 4));
  Step();
  EXPECT_LE(scheduler_->pool().used(0), 6);
  Sequence* guaranteed = Add(TextRequest(1, 50, 14));
  Step();
  EXPECT_TRUE(guaranteed->Running());
  while (!guaranteed->end.has_value() && ended_.empty()) Step();
  EXPECT_EQ(guaranteed->preemptions, 0);
}

}  // namespace
}  // namespace vernier
