#include "engine/reservation.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "engine/status_payload.h"

namespace vernier {
namespace {

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

std::shared_ptr<AdmissionLedger> LedgerOf(int64_t requests, int64_t tokens) {
  return std::make_shared<AdmissionLedger>(
      AdmissionLimits{.max_requests = requests, .max_tokens = tokens});
}

void ExpectLoad(const AdmissionLedger& ledger, int64_t requests, int64_t tokens) {
  EXPECT_EQ(ledger.load().requests, requests);
  EXPECT_EQ(ledger.load().tokens, tokens);
}

TEST(ReservationTest, HoldsRoomUntilDestroyed) {
  const auto ledger = LedgerOf(4, 100);
  {
    auto held = ledger->Reserve(2, 30);
    ASSERT_TRUE(held.ok()) << held.status();
    ASSERT_EQ(held->size(), 2u);
    EXPECT_EQ((*held)[0].tokens(), 30);
    ExpectLoad(*ledger, 2, 60);
  }
  ExpectLoad(*ledger, 0, 0);
}

TEST(ReservationTest, FullQueueOfRequestsIsResourceExhausted) {
  const auto ledger = LedgerOf(3, 1000);
  auto held = ledger->Reserve(2, 10);
  ASSERT_TRUE(held.ok());
  const absl::Status status = ledger->Reserve(2, 10).status();  // all or nothing
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(RejectReasonOf(status), RejectReason::kQueueRequests);
  EXPECT_GT(*RetryAfterOf(status), absl::ZeroDuration());
  ExpectLoad(*ledger, 2, 20);
  EXPECT_TRUE(ledger->Reserve(1, 10).ok());
}

TEST(ReservationTest, FullQueueOfTokensIsResourceExhausted) {
  const auto ledger = LedgerOf(10, 100);
  auto held = ledger->Reserve(1, 61);
  ASSERT_TRUE(held.ok());
  const absl::Status status = ledger->Reserve(2, 20).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(RejectReasonOf(status), RejectReason::kQueueTokens);
  EXPECT_GT(*RetryAfterOf(status), absl::ZeroDuration());
  ExpectLoad(*ledger, 1, 61);
  auto exact = ledger->Reserve(1, 39);
  EXPECT_TRUE(exact.ok());
  ExpectLoad(*ledger, 2, 100);
}

TEST(ReservationTest, WhatCanNeverFitHasNoRetry) {
  const auto ledger = LedgerOf(3, 100);
  const absl::Status by_requests = ledger->Reserve(4, 1).status();
  EXPECT_EQ(RejectReasonOf(by_requests), RejectReason::kQueueRequests);
  EXPECT_LT(*RetryAfterOf(by_requests), absl::ZeroDuration());
  const absl::Status by_tokens = ledger->Reserve(1, 101).status();
  EXPECT_EQ(RejectReasonOf(by_tokens), RejectReason::kQueueTokens);
  EXPECT_LT(*RetryAfterOf(by_tokens), absl::ZeroDuration());
}

TEST(ReservationTest, AbsurdSizesAreRefusedWithoutOverflow) {
  const auto ledger = LedgerOf(3, 100);
  for (const auto& [requests, tokens] : std::vector<std::pair<int64_t, int64_t>>{
           {0, 1}, {-1, 1}, {1, -1}, {kMax, kMax}, {2, kMax}, {kMax, 2}, {kMax, 0}, {1, kMax}}) {
    EXPECT_FALSE(ledger->Reserve(requests, tokens).ok()) << requests << " x " << tokens;
    ExpectLoad(*ledger, 0, 0);
  }
}

TEST(ReservationTest, ReleasesOnce) {
  const auto ledger = LedgerOf(4, 100);
  auto held = ledger->Reserve(1, 40);
  ASSERT_TRUE(held.ok());
  Reservation first = std::move((*held)[0]);
  ExpectLoad(*ledger, 1, 40);
  Reservation second = std::move(first);
  first.Release();  // moved from: holds nothing
  ExpectLoad(*ledger, 1, 40);
  second.Release();
  ExpectLoad(*ledger, 0, 0);
  second.Release();
  second.Trim(0);
  ExpectLoad(*ledger, 0, 0);
}

TEST(ReservationTest, AssignmentGivesBackWhatWasHeld) {
  const auto ledger = LedgerOf(4, 100);
  auto held = ledger->Reserve(2, 40);
  ASSERT_TRUE(held.ok());
  (*held)[0] = std::move((*held)[1]);
  ExpectLoad(*ledger, 1, 40);
  (*held)[0] = Reservation();
  ExpectLoad(*ledger, 0, 0);
}

TEST(ReservationTest, TrimLowersAndNeverRaises) {
  const auto ledger = LedgerOf(4, 100);
  auto held = ledger->Reserve(1, 40);
  ASSERT_TRUE(held.ok());
  Reservation& reservation = (*held)[0];
  reservation.Trim(50);
  ExpectLoad(*ledger, 1, 40);
  reservation.Trim(15);
  ExpectLoad(*ledger, 1, 15);
  EXPECT_EQ(reservation.tokens(), 15);
  reservation.Trim(-5);  // no more than is held can be given back
  ExpectLoad(*ledger, 1, 0);
  reservation.Release();
  ExpectLoad(*ledger, 0, 0);
}

TEST(ReservationTest, OutlivesTheLedgersOtherOwners) {
  auto ledger = LedgerOf(4, 100);
  auto held = ledger->Reserve(1, 40);
  ASSERT_TRUE(held.ok());
  ledger.reset();
  (*held)[0].Release();
}

TEST(ReservationTest, DrainingIsUnavailableAndKeepsWhatIsHeld) {
  const auto ledger = LedgerOf(4, 100);
  auto held = ledger->Reserve(1, 40);
  ASSERT_TRUE(held.ok());
  ledger->StartDrain();
  EXPECT_TRUE(ledger->load().draining);
  const absl::Status status = ledger->Reserve(1, 1).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(RejectReasonOf(status), RejectReason::kDraining);
  ExpectLoad(*ledger, 1, 40);
}

absl::Duration RetryWhenFull(AdmissionLedger* ledger, int64_t tokens) {
  const absl::StatusOr<std::vector<Reservation>> refused = ledger->Reserve(1, tokens);
  return RetryAfterOf(refused.status()).value_or(absl::InfiniteDuration());
}

TEST(ReservationTest, TheRetryHintIsTheExcessOverTheDrainRate) {
  const auto ledger = LedgerOf(100, 1000);
  auto held = ledger->Reserve(1, 1000);
  ASSERT_TRUE(held.ok());
  for (int second = 0; second < 120; ++second) ledger->OnFinished(100, absl::Seconds(second));
  // 100 tokens a second, 300 tokens too many.
  EXPECT_NEAR(absl::ToDoubleSeconds(RetryWhenFull(ledger.get(), 300)), 3, 0.3);
}

TEST(ReservationTest, RequestsThatFinishTogetherAllCountInTheDrainRate) {
  const auto ledger = LedgerOf(100, 1000);
  auto held = ledger->Reserve(1, 1000);
  ASSERT_TRUE(held.ok());
  for (int second = 0; second < 120; ++second) {
    for (int i = 0; i < 4; ++i) ledger->OnFinished(25, absl::Seconds(second));
  }
  EXPECT_NEAR(absl::ToDoubleSeconds(RetryWhenFull(ledger.get(), 300)), 3, 0.5);
}

TEST(ReservationTest, TheRetryHintStaysWithinItsBounds) {
  const auto ledger = LedgerOf(100, 1000);
  auto held = ledger->Reserve(1, 1000);
  ASSERT_TRUE(held.ok());
  EXPECT_GT(RetryWhenFull(ledger.get(), 300), absl::ZeroDuration());  // no rate is known yet
  for (int hour = 0; hour < 4; ++hour) ledger->OnFinished(1, absl::Hours(hour));
  EXPECT_EQ(RetryWhenFull(ledger.get(), 1000), absl::Seconds(10));
  for (int i = 0; i < 1000; ++i) {
    ledger->OnFinished(int64_t{1} << 40, absl::Hours(4) + absl::Seconds(i));
  }
  EXPECT_EQ(RetryWhenFull(ledger.get(), 1), absl::Milliseconds(50));
}

TEST(ReservationTest, ATenantHasAQuotaThatOthersDoNotTouch) {
  AdmissionLimits limits{.max_requests = 100, .max_tokens = 1000};
  limits.tenant = {.max_requests = 2, .max_tokens = 50};
  const auto ledger = std::make_shared<AdmissionLedger>(limits);
  auto held = ledger->Reserve(2, 10, {.tenant = "a"});
  ASSERT_TRUE(held.ok());
  const absl::Status by_requests = ledger->Reserve(1, 1, {.tenant = "a"}).status();
  EXPECT_EQ(by_requests.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(RejectReasonOf(by_requests), RejectReason::kTenantQuota);
  EXPECT_GT(*RetryAfterOf(by_requests), absl::ZeroDuration());
  auto other = ledger->Reserve(1, 45, {.tenant = "b"});
  ASSERT_TRUE(other.ok());
  EXPECT_EQ(RejectReasonOf(ledger->Reserve(1, 6, {.tenant = "b"}).status()),
            RejectReason::kTenantQuota);
  EXPECT_LT(*RetryAfterOf(ledger->Reserve(1, 51, {.tenant = "c"}).status()), absl::ZeroDuration())
      << "it can never fit";
  held->clear();
  EXPECT_TRUE(ledger->Reserve(2, 25, {.tenant = "a"}).ok());
}

TEST(ReservationTest, AVariantHasItsOwnLimit) {
  AdmissionLimits limits{.max_requests = 100, .max_tokens = 1000};
  limits.variant = {.max_requests = 2, .max_tokens = 50};
  const auto ledger = std::make_shared<AdmissionLedger>(limits);
  auto held = ledger->Reserve(2, 25, {.variant = 1});
  ASSERT_TRUE(held.ok());
  EXPECT_EQ(RejectReasonOf(ledger->Reserve(1, 0, {.variant = 1}).status()),
            RejectReason::kQueueRequests);
  (*held)[0].Trim(5);
  (*held)[1].Release();
  EXPECT_TRUE(ledger->Reserve(1, 45, {.variant = 1}).ok());
  EXPECT_EQ(RejectReasonOf(ledger->Reserve(1, 46, {.variant = 1}).status()),
            RejectReason::kQueueTokens);
  EXPECT_TRUE(ledger->Reserve(1, 50, {.variant = 2}).ok());
  EXPECT_TRUE(ledger->Reserve(3, 100, {}).ok()) << "several variants at once: the common limit";
}

TEST(ReservationTest, ADeadlineThatTheQueueCannotMeetIsRefusedAtTheDoor) {
  AdmissionLimits limits{.max_requests = 100, .max_tokens = 1000};
  limits.served_at_once = 2;
  const auto ledger = std::make_shared<AdmissionLedger>(limits);
  auto held = ledger->Reserve(12, 10, {});
  ASSERT_TRUE(held.ok());
  const AdmissionScope hurried{.time_left = absl::Seconds(5)};
  EXPECT_TRUE(ledger->Reserve(1, 10, hurried).ok()) << "no rate is known yet";
  for (int second = 0; second < 60; ++second) ledger->OnFinished(10, absl::Seconds(second));
  // Ten wait, one a second ends.
  const absl::Status late = ledger->Reserve(1, 10, hurried).status();
  EXPECT_EQ(late.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(RejectReasonOf(late), RejectReason::kDeadlineInfeasible);
  EXPECT_TRUE(ledger->Reserve(1, 10, {.time_left = absl::Seconds(15)}).ok());
  EXPECT_TRUE(ledger->Reserve(1, 10, {.tenant = "b", .time_left = absl::Seconds(5)}).ok())
      << "a tenant that holds nothing does not wait behind the others";
}

TEST(ReservationTest, WhatWouldWaitTooLongIsRefusedWithTheTimeUntilItWouldNot) {
  AdmissionLimits limits{.max_requests = 100, .max_tokens = 1000};
  limits.served_at_once = 2;
  limits.max_wait = absl::Seconds(8);
  const auto ledger = std::make_shared<AdmissionLedger>(limits);
  auto held = ledger->Reserve(12, 10, {});
  ASSERT_TRUE(held.ok()) << "no rate is known yet";
  for (int second = 0; second < 60; ++second) ledger->OnFinished(10, absl::Seconds(second));
  // Ten wait, one a second ends.
  const absl::Status late = ledger->Reserve(1, 10, {}).status();
  EXPECT_EQ(late.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(RejectReasonOf(late), RejectReason::kQueueWait);
  EXPECT_NEAR(absl::ToDoubleSeconds(*RetryAfterOf(late)), 2, 0.1);
  EXPECT_EQ(ledger->Reserve(1, 10, {.time_left = absl::Seconds(5)}).status().code(),
            absl::StatusCode::kDeadlineExceeded)
      << "no retry helps it";
  EXPECT_TRUE(ledger->Reserve(1, 10, {.tenant = "b"}).ok());
  for (int i = 0; i < 3; ++i) (*held)[i].Release();
  EXPECT_TRUE(ledger->Reserve(1, 10, {}).ok());
}

TEST(ReservationTest, AFullQueueIsSaidBeforeTheSizeIsKnown) {
  const auto ledger = LedgerOf(2, 100);
  EXPECT_TRUE(ledger->CheckNotFull().ok());
  auto held = ledger->Reserve(2, 10);
  ASSERT_TRUE(held.ok());
  for (int second = 0; second < 60; ++second) ledger->OnFinished(10, absl::Seconds(second * 4));
  const absl::Status by_requests = ledger->CheckNotFull();
  EXPECT_EQ(by_requests, ledger->Reserve(1, 1).status());
  EXPECT_NEAR(absl::ToDoubleSeconds(*RetryAfterOf(by_requests)), 4, 1) << "one ends every 4 s";
  held->clear();
  EXPECT_TRUE(ledger->CheckNotFull().ok());
  held = ledger->Reserve(1, 100);
  EXPECT_EQ(RejectReasonOf(ledger->CheckNotFull()), RejectReason::kQueueTokens);
  ledger->StartDrain();
  EXPECT_TRUE(ledger->CheckNotFull().ok()) << "Reserve says why";
  EXPECT_EQ(RejectReasonOf(ledger->Reserve(1, 1).status()), RejectReason::kDraining);
}

TEST(ReservationTest, ManyThreadsNeverExceedTheLimitAndGiveAllBack) {
  const auto ledger = LedgerOf(8, 64);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([ledger] {
      for (int i = 0; i < 2000; ++i) {
        auto held = ledger->Reserve(1 + i % 3, 5);
        const AdmissionLedger::Load load = ledger->load();
        EXPECT_LE(load.requests, 8);
        EXPECT_LE(load.tokens, 64);
        if (held.ok()) (*held)[0].Trim(i % 5);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ExpectLoad(*ledger, 0, 0);
}

}  // namespace
}  // namespace vernier
