// The calls of ModelControl: each works on ModelControl's thread and answers on a writer.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "server/call.h"
#include "server/model_control.h"
#include "vernier/v1/model_control.pb.h"

namespace vernier {

class ControlCall : public EngineCall {
 public:
  ControlCall(const Served* served, const CallContext& context, Responder* responder,
              ModelControl* control, int variant)
      : EngineCall(served, context, responder), control_(control), variant_(variant) {}

  void Start() override;

 protected:
  // On ModelControl's thread.
  virtual absl::Status Work() = 0;
  // On a writer, once Work has ended or told of progress; `result` when it has ended.
  virtual void Answer(const std::optional<absl::Status>& result) = 0;
  bool go_on() const { return !ended_.load(std::memory_order_acquire); }

  ModelControl* const control_;
  const int variant_;

 private:
  void EndRuns(EndReason) override { ended_.store(true, std::memory_order_release); }
  void OnToken(const OutboxEvent&, const TopLogprobs*) override {}
  void OnScores(int, const ScoreEvent&) override {}
  void OnFinish(int, const FinishEvent&) override {}
  void Flush() override;

  std::atomic<bool> ended_{false};  // by the client
  Mutex result_mutex_;
  std::optional<absl::Status> result_ ABSL_GUARDED_BY(result_mutex_);
};

class LoadVariantCall : public ControlCall {
 public:
  using ControlCall::ControlCall;

 private:
  absl::Status Work() override;
  void Answer(const std::optional<absl::Status>& result) override;

  Mutex progress_mutex_;
  std::optional<LoadProgress> progress_ ABSL_GUARDED_BY(progress_mutex_);  // not written yet
  v1::LoadVariantProgress message_;                                        // the writers'
  bool last_written_ = false;
};

class UnloadVariantCall : public ControlCall {
 public:
  using ControlCall::ControlCall;

 private:
  absl::Status Work() override;
  void Answer(const std::optional<absl::Status>& result) override;
  v1::UnloadVariantResponse reply_;  // Work's until it has ended
};

class PlanMemoryCall : public ControlCall {
 public:
  using ControlCall::ControlCall;

 private:
  absl::Status Work() override;
  void Answer(const std::optional<absl::Status>& result) override;
  v1::PlanMemoryResponse reply_;  // Work's until it has ended
};

}  // namespace vernier
