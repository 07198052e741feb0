// Compare and CompareStream: one prompt through several variants, joined and scored against each
// other.
//
// Free-running: a request a variant with the same prompt and seed. Teacher-forced: a paired score
// request a variant over the same tokens; by default those that the reference wrote.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/call.h"
#include "server/convert.h"
#include "server/sample.h"
#include "vernier/v1/evaluation.pb.h"

namespace vernier {

class CompareCall : public EngineCall {
 public:
  enum class Shape { kUnary, kStream };
  CompareCall(const Served* served, const CallContext& context, Responder* responder,
              CompareSpec spec, Shape shape);

  void Start() override;

 protected:
  void EndRuns(EndReason reason) override;
  void OnToken(const OutboxEvent& event, const TopLogprobs* top) override;
  void OnScores(int run, const ScoreEvent& scores) override;
  void OnFinish(int run, const FinishEvent& event) override;
  void Flush() override;

 private:
  // One column of the answer: a variant, or the control. Its free run is run `index`, its forced
  // run is `parts + index`.
  struct Part {
    int variant = 0;
    bool reference = false;
    bool control = false;
    std::optional<Sample> sample;     // of the free run
    std::vector<ScoreResult> scores;  // of the forced run
    bool scored = false;              // the forced run ended well
    absl::Status status;              // the first failure of either run
    size_t compared = 0;              // tokens found equal to the reference's so far
    bool parted = false;              // they differ: the event was made
    absl::Duration last_token = absl::InfiniteDuration();
  };
  enum class Phase { kFree, kForced, kDone };

  int num_parts() const { return static_cast<int>(parts_.size()); }
  bool runs_free(const Part& part) const;
  void Prepare();
  void StartFree();
  void StartForced();
  std::unique_ptr<Request> FreeRequest(int index);
  std::unique_ptr<Request> ForcedRequest(int index);
  // Submits what the timing allows now.
  void SubmitNext();
  void NextPhase();
  void FindDivergences();
  void FlushStream();
  void Finish();
  std::vector<float> ReferenceMargins() const;
  v1::VariantResult ResultOf(const Part& part, std::span<const float> margins) const;
  void CountQuality(const Part& part) const;
  std::string NameOf(const Part& part) const;
  int64_t DeliveredTokens() const;

  CompareSpec spec_;
  const Shape shape_;
  std::vector<Reservation> reservations_;
  std::vector<std::shared_ptr<RequestControl>> controls_;  // by run
  std::vector<int32_t> prompt_;
  std::vector<int32_t> forced_;

  // From here on of the writer in Drain.
  std::vector<Part> parts_;
  Part* reference_ = nullptr;
  Phase phase_ = Phase::kFree;
  std::deque<std::unique_ptr<Request>> planned_;
  int running_ = 0;                               // submitted and not finished
  std::deque<v1::CompareStreamResponse> events_;  // divergences that wait
  absl::Duration oldest_waiting_ = absl::InfiniteDuration();
  std::optional<uint32_t> requests_running_;
  std::optional<v1::CompareResponse> summary_;
  bool summary_sent_ = false;
  bool started_ = false;
};

}  // namespace vernier
