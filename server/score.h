// Score: the log-probability of each token of a text, in one window or several, one after another.
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
  void Prepare();
  int64_t WindowTokens() const;
  bool SubmitNextWindow();
  void FinishReply();

  ScoreSpec spec_;
  const std::string request_id_;
  Reservation reservation_;                        // of one window, held until the call ends
  const std::shared_ptr<RequestControl> control_;  // one for all windows
  std::vector<int32_t> ids_;

  // From here on of the writer in Drain.
  v1::ScoreResponse reply_;
  int64_t next_window_ = 0;   // first token of the window that comes next
  int64_t window_first_ = 0;  // of the one that runs
  bool running_ = false;
  absl::Status failure_;
  Timings timings_;
};

}  // namespace vernier
