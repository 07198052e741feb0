// One simulated client: its request, what the oracle says it must receive, and what it received.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/request.h"

namespace vernier::simulation {

// Checks each event as it comes; failures name the request.
class Client : public TokenSink {
 public:
  // Computes what `request` must receive. With `stop_after` >= 0 the client ends its request for a
  // stop string when it has that many tokens.
  Client(const Request& request, int64_t stop_after);

  void OnToken(const TokenEvent& event) override;
  void OnScores(int64_t first_position, std::span<const ScoreResult> results) override;
  void OnFinish(const FinishEvent& event) override;

  bool finished() const { return reason_ != FinishReason::kNone; }
  FinishReason reason() const { return reason_; }
  int64_t received() const { return static_cast<int64_t>(tokens_received_); }
  uint64_t id() const { return id_; }
  RequestControl* control() const { return control_.get(); }
  // Whether `now` is past a deadline or time limit, or its control is set.
  bool MustEnd(absl::Duration now) const;

 private:
  void ExpectText(const Request& request);
  void ExpectScores(const Request& request);
  bool ReceivedAll() const;

  const uint64_t id_;
  const std::shared_ptr<RequestControl> control_;
  const absl::Duration deadline_, time_limit_;
  const int64_t prompt_tokens_;
  const int64_t stop_after_;
  const bool paired_;

  // By the oracle, if nothing ends the request from outside.
  std::vector<int32_t> tokens_;
  FinishReason natural_end_ = FinishReason::kNone;
  int32_t stop_token_ = -1;
  int64_t first_scored_ = 0;                      // position of scores_[0]
  std::vector<float> scores_, reference_scores_;  // [position - first_scored_]

  size_t tokens_received_ = 0;
  size_t scores_received_ = 0;
  FinishReason reason_ = FinishReason::kNone;
};

}  // namespace vernier::simulation
