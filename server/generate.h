// Generate and GenerateStream: admission, tokenizing, n requests, one answer.
#pragma once

#include <memory>
#include <vector>

#include "server/call.h"
#include "server/convert.h"
#include "server/experiments/registry.h"
#include "server/sample.h"

namespace vernier {

class GenerateCall : public EngineCall {
 public:
  // `streaming`: deltas as they come instead of one reply.
  enum class Shape { kUnary, kStream };
  GenerateCall(const Served* served, const CallContext& context, Responder* responder,
               GenerateSpec spec, Shape shape);

  void Start() override;

 protected:
  void EndRuns(EndReason reason) override;
  void OnToken(const OutboxEvent& event, const TopLogprobs* top) override;
  void OnScores(int run, const ScoreEvent& scores) override;
  void OnFinish(int run, const FinishEvent& event) override;
  void Flush() override;

 private:
  void TokenizeAndSubmit();
  void Submit();
  // Lets experiments choose the variant; the reservations follow.
  absl::Status Route(int64_t prompt_tokens);
  void EndExposure();
  void FlushStream();
  // The next message that waits, if any.
  bool NextMessage(v1::GenerateStreamResponse* message);
  void FinishUnary();
  v1::ServedBy ServedBy() const;
  absl::Status FirstFailure() const;
  int64_t DeliveredTokens() const;

  GenerateSpec spec_;
  const Shape shape_;
  std::vector<Reservation> reservations_;
  std::vector<std::shared_ptr<RequestControl>> controls_;  // one a sample
  std::vector<int32_t> prompt_;
  Exposure exposure_;

  // From here on of the writer in Drain.
  std::vector<Sample> samples_;
  std::vector<bool> finish_sent_;
  std::vector<absl::Duration> last_token_;  // arrival, by sample
  std::vector<absl::Duration> gaps_;        // between tokens, where an exposure is logged
  double sum_logprob_ = 0;
  int64_t logprobs_ = 0;
  std::vector<v1::TokenDetail> prompt_logprobs_;
  size_t prompt_logprobs_sent_ = 0;
  absl::Duration oldest_waiting_ = absl::InfiniteDuration();
  int unfinished_ = 0;
  bool started_ = false;       // the start message was written
  bool has_progress_ = false;  // a token, a score or a good end: the start message may go
};

}  // namespace vernier
