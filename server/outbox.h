// Where the device thread leaves a call's events, and the order in which a writer takes them out.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "engine/clock.h"
#include "engine/request.h"
#include "kernels/base/mutex.h"
#include "server/writer_pool.h"

namespace vernier {

// One event of one of a call's requests ("runs").
struct OutboxEvent {
  enum class Kind : uint8_t { kToken, kScores, kFinish };
  Kind kind = Kind::kToken;
  bool has_logprob = false;
  int run = 0;
  int32_t id = 0;  // kToken
  float logprob = 0;
  int32_t detail = -1;     // index into what the kind has beside it; -1: nothing
  absl::Duration arrived;  // engine clock
};

struct ScoreEvent {
  int64_t first_position = 0;
  std::vector<ScoreResult> results;
};

// A call's events since the last Take.
struct OutboxBatch {
  std::vector<OutboxEvent> events;
  std::vector<TopLogprobs> tops;
  std::vector<ScoreEvent> scores;
  std::vector<FinishEvent> finishes;
  void Clear();
};

// A call that answers from engine events. Sinks (device thread) append; the pool's writers Drain,
// one at a time, and hand each event to the hooks below, which therefore need no lock.
class Outbox : public Writable, public std::enable_shared_from_this<Outbox> {
 public:
  Outbox(WriterPool* writers, const Clock* clock) : writers_(writers), clock_(clock) {}

  // Room for the tokens of all runs, so that the device thread allocates nothing for them. Before
  // any sink is used.
  void ReserveEvents(int64_t tokens, bool with_tops);
  std::shared_ptr<TokenSink> MakeSink(int run);

  void Drain() final;
  void Wake() final;

 protected:
  // In the order of arrival, on one writer thread at a time.
  virtual void OnToken(const OutboxEvent& event, const TopLogprobs* top) = 0;
  virtual void OnScores(int run, const ScoreEvent& scores) = 0;
  virtual void OnFinish(int run, const FinishEvent& event) = 0;
  // After the events of one Drain, and after each Wake.
  virtual void Flush() = 0;

  WriterPool* const writers_;
  const Clock* const clock_;

 private:
  friend class RunSink;

  Mutex mutex_;
  OutboxBatch waiting_ ABSL_GUARDED_BY(mutex_);
  bool scheduled_ ABSL_GUARDED_BY(mutex_) = false;  // posted, or a writer is in Drain
  bool again_ ABSL_GUARDED_BY(mutex_) = false;      // woken while in Drain
  OutboxBatch draining_;                            // of the writer in Drain
};

}  // namespace vernier
