// A sink that keeps what it was told and lets a test wait for the end.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "engine/request.h"
#include "kernels/base/mutex.h"

namespace vernier::testing {

// Thread-safe: the device thread writes, a test reads.
class RecordingSink : public TokenSink {
 public:
  // Called on the device thread after each token, and at the end.
  std::function<void(const TokenEvent&)> on_token;
  std::function<void()> on_finish;

  void OnToken(const TokenEvent& event) override {
    {
      MutexLock lock(&mutex_);
      EXPECT_EQ(finishes_, 0);
      EXPECT_EQ(event.index, static_cast<int64_t>(tokens_.size()));
      tokens_.push_back(event);
      changed_.NotifyAll();
    }
    if (on_token) on_token(event);
  }
  void OnScores(int64_t first_position, std::span<const ScoreResult> results) override {
    MutexLock lock(&mutex_);
    EXPECT_EQ(finishes_, 0);
    if (scores_.empty()) first_scored_ = first_position;
    EXPECT_EQ(first_position, first_scored_ + static_cast<int64_t>(scores_.size()));
    scores_.insert(scores_.end(), results.begin(), results.end());
  }
  void OnFinish(const FinishEvent& event) override {
    if (on_finish) on_finish();
    MutexLock lock(&mutex_);
    ++finishes_;
    finish_ = event;
    changed_.NotifyAll();
  }

  FinishEvent Wait() {
    MutexLock lock(&mutex_);
    while (finishes_ == 0) changed_.Wait(&mutex_);
    return finish_;
  }
  void WaitForTokens(size_t count) {
    MutexLock lock(&mutex_);
    while (tokens_.size() < count && finishes_ == 0) changed_.Wait(&mutex_);
  }
  int finishes() {
    MutexLock lock(&mutex_);
    return finishes_;
  }
  std::vector<TokenEvent> tokens() {
    MutexLock lock(&mutex_);
    return tokens_;
  }
  std::vector<int32_t> ids() {
    std::vector<int32_t> ids;
    for (const TokenEvent& token : tokens()) ids.push_back(token.id);
    return ids;
  }
  int64_t first_scored() {
    MutexLock lock(&mutex_);
    return first_scored_;
  }
  std::vector<ScoreResult> scores() {
    MutexLock lock(&mutex_);
    return scores_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<TokenEvent> tokens_ ABSL_GUARDED_BY(mutex_);
  int64_t first_scored_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<ScoreResult> scores_ ABSL_GUARDED_BY(mutex_);
  FinishEvent finish_ ABSL_GUARDED_BY(mutex_);
  int finishes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace vernier::testing
