// Score: the log-probability of each token of a text, in one or several windows.
#pragma once

#include <memory>
#include <vector>

#include "server/call.h"
#include "server/convert.h"
#include "vernier/v1/inference.pb.h"

namespace vernier {

class ScoreCall : public EngineCall {
 public:
  ScoreCall(const Served* served, const CallContext& context, Responder* responder, ScoreSpec spec,
            std::string request_id);

  void Start() override;

 protected:
  void EndRuns(EndReason reason) override { control_->End(reason); }
  void OnToken(const OutboxEvent&, const TopLogprobs*) override {}
  void OnScores(int run, const ScoreEvent& scores) override;
  void OnFinish(int run, const FinishEvent& event) override;
  void Flush() override;

 private:
  void TokenizeAndSubmit();
  void Submit();
  int64_t WindowTokens() const;
  void FinishReply();

  ScoreSpec spec_;
  const std::string request_id_;
  std::vector<Reservation> reservations_;
  const std::shared_ptr<RequestControl> control_;  // one for all windows
  std::vector<int32_t> ids_;
  bool truncated_ = false;

  // From here on of the writer in Drain.
  std::vector<std::vector<ScoreResult>> results_;  // by window, of positions 1 .. last
  int64_t unfinished_ = 0;
  absl::Status failure_;
  FinishEvent last_;
};

}  // namespace vernier
