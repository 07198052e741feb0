#include "tests/simulation/client.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/simulation/hash_device.h"

namespace vernier::simulation {

Client::Client(const Request& request, int64_t stop_after)
    : id_(request.id),
      control_(request.control),
      deadline_(request.deadline),
      time_limit_(request.time_limit),
      prompt_tokens_(static_cast<int64_t>(request.prompt.size())),
      stop_after_(stop_after),
      paired_(request.score.has_value() && request.score->reference_variant >= 0) {
  ExpectScores(request);
  if (request.score.has_value()) {
    natural_end_ = FinishReason::kStop;
  } else {
    ExpectText(request);
  }
}

void Client::ExpectText(const Request& request) {
  const SamplingParams& sampling = request.sampling;
  std::vector<int32_t> stops = sampling.stop_token_ids;
  if (!sampling.ignore_eos) stops.push_back(kEndToken);
  std::vector<int32_t> text = request.prompt;
  natural_end_ = FinishReason::kLength;
  while (static_cast<int64_t>(tokens_.size()) < sampling.max_tokens) {
    const bool may_end = static_cast<int64_t>(tokens_.size()) >= sampling.min_tokens;
    const int32_t id = Draw(LogitsAfter(request.variant, text), sampling.seed, text.size(),
                            may_end ? std::span<const int32_t>() : stops);
    if (std::find(stops.begin(), stops.end(), id) != stops.end()) {
      const bool eos = id == kEndToken && !sampling.ignore_eos;
      natural_end_ = eos ? FinishReason::kEos : FinishReason::kStop;
      stop_token_ = id;
      return;
    }
    tokens_.push_back(id);
    text.push_back(id);
  }
}

void Client::ExpectScores(const Request& request) {
  if (!request.score.has_value() && request.sampling.prompt_logprobs < 0) return;
  first_scored_ = request.score.has_value() ? request.score->first_target : 1;
  for (int64_t p = first_scored_; p < prompt_tokens_; ++p) {
    const auto before = std::span(request.prompt).first(static_cast<size_t>(p));
    const int32_t target = request.prompt[static_cast<size_t>(p)];
    scores_.push_back(LogprobOf(LogitsAfter(request.variant, before), target));
    if (paired_) {
      reference_scores_.push_back(
          LogprobOf(LogitsAfter(request.score->reference_variant, before), target));
    }
  }
}

bool Client::MustEnd(absl::Duration now) const {
  return control_->end() != EndReason::kNone || now >= deadline_ || now >= time_limit_;
}

void Client::OnToken(const TokenEvent& event) {
  ASSERT_FALSE(finished()) << "request " << id_ << ": a token after the end";
  ASSERT_EQ(event.index, received()) << "request " << id_;
  ASSERT_LT(tokens_received_, tokens_.size()) << "request " << id_ << ": more tokens than drawn";
  ASSERT_EQ(event.id, tokens_[tokens_received_])
      << "request " << id_ << " token " << tokens_received_;
  ASSERT_EQ(scores_received_, scores_.size()) << "request " << id_ << ": text before its scores";
  if (static_cast<int64_t>(++tokens_received_) == stop_after_) {
    control_->End(EndReason::kStopMatched);
  }
}

void Client::OnScores(int64_t first_position, std::span<const ScoreResult> results) {
  ASSERT_FALSE(finished()) << "request " << id_ << ": scores after the end";
  ASSERT_EQ(first_position, first_scored_ + static_cast<int64_t>(scores_received_))
      << "request " << id_;
  ASSERT_LE(scores_received_ + results.size(), scores_.size()) << "request " << id_;
  for (const ScoreResult& result : results) {
    ASSERT_EQ(result.logprob, scores_[scores_received_])
        << "request " << id_ << " score " << scores_received_;
    if (paired_) {
      ASSERT_EQ(result.reference_logprob, reference_scores_[scores_received_]) << "request " << id_;
    }
    ++scores_received_;
  }
}

bool Client::ReceivedAll() const {
  return tokens_received_ == tokens_.size() && scores_received_ == scores_.size();
}

void Client::OnFinish(const FinishEvent& event) {
  ASSERT_FALSE(finished()) << "request " << id_ << ": a second end";
  ASSERT_NE(event.reason, FinishReason::kNone);
  reason_ = event.reason;
  EXPECT_EQ(event.prompt_tokens, prompt_tokens_);
  EXPECT_EQ(event.completion_tokens, received());
  EXPECT_GE(event.timings.queue, absl::ZeroDuration());
  EXPECT_GE(event.timings.total, event.timings.queue);
  switch (event.reason) {
    case FinishReason::kEos:
    case FinishReason::kLength:
      EXPECT_EQ(event.reason, natural_end_) << "request " << id_;
      EXPECT_TRUE(ReceivedAll()) << "request " << id_;
      EXPECT_EQ(event.stop_token, stop_token_);
      break;
    case FinishReason::kStop:
      if (control_->end() == EndReason::kStopMatched) break;
      EXPECT_EQ(natural_end_, FinishReason::kStop) << "request " << id_;
      EXPECT_TRUE(ReceivedAll()) << "request " << id_;
      EXPECT_EQ(event.stop_token, stop_token_);
      break;
    case FinishReason::kCancelled:
      EXPECT_EQ(control_->end(), EndReason::kCancelled);
      break;
    case FinishReason::kSlowConsumer:
      EXPECT_EQ(control_->end(), EndReason::kSlowConsumer);
      break;
    case FinishReason::kDeadline:
      EXPECT_TRUE(deadline_ < absl::InfiniteDuration() || control_->end() == EndReason::kDeadline);
      break;
    case FinishReason::kTimeLimit:
      EXPECT_LT(time_limit_, absl::InfiniteDuration());
      break;
    case FinishReason::kError:  // too many preemptions
      EXPECT_EQ(event.status.code(), absl::StatusCode::kResourceExhausted);
      EXPECT_GT(event.preemptions, 0);
      break;
    default:
      EXPECT_EQ(event.reason, FinishReason::kDrain);
  }
}

}  // namespace vernier::simulation
