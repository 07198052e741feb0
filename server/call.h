// What every call of ours has: how it answers, what it needs of the daemon, and the bookkeeping of
// its start and end.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "server/metrics.h"
#include "server/outbox.h"
#include "server/task_pool.h"
#include "server/writer_pool.h"

namespace google::protobuf {
class Message;
}

namespace vernier {

class Experiments;
class ShadowPool;

// What calls use of the daemon; immutable while it serves, all parts thread-safe.
struct Served {
  const Model* model = nullptr;
  Engine* engine = nullptr;
  const Clock* clock = nullptr;
  WriterPool* writers = nullptr;
  TaskPool* tasks = nullptr;
  Metrics* metrics = nullptr;
  std::atomic<uint64_t>* next_request_id = nullptr;
  Experiments* experiments = nullptr;  // null: none
  ShadowPool* shadows = nullptr;       // null where experiments is
  absl::Duration slow_consumer = absl::Seconds(5);
};

// How a call answers its client; gRPC's is in services.cc, tests have their own. Used by one thread
// at a time.
class Responder {
 public:
  virtual ~Responder() = default;
  // A message of a stream. One at a time: the call's OnWritten says when the next may follow.
  virtual void Write(const google::protobuf::Message& message) = 0;
  // Ends the call; the responder may be gone afterwards. `reply`: of a unary call that succeeded.
  // `delivered_tokens` >= 0: of a stream that fails after its first token, goes into the trailer.
  virtual void Finish(const absl::Status& status, const google::protobuf::Message* reply,
                      int64_t delivered_tokens) = 0;
};

// What a call knows of its client at arrival.
struct CallContext {
  Method method = Method::kGenerate;
  absl::Duration arrived;                              // engine clock
  absl::Duration deadline = absl::InfiniteDuration();  // engine clock
  std::string tenant;                                  // "": none given
  std::string routing_key;                             // of experiments; "": none given
};

// A call that makes engine requests. gRPC's threads call OnWritten and Cancel, at any time until
// the responder's Finish; the rest runs on one thread at a time.
class EngineCall : public Outbox {
 public:
  EngineCall(const Served* served, const CallContext& context, Responder* responder)
      : Outbox(served->writers, served->clock),
        served_(served),
        context_(context),
        responder_(responder) {}

  // Starts the work; called once. May answer at once.
  virtual void Start() = 0;
  // The client left, or its deadline passed.
  void Cancel();
  // The last Write is done (`ok`) or can never be.
  void OnWritten(bool ok);

 protected:
  // Ends every request of the call that still runs.
  virtual void EndRuns(EndReason reason) = 0;

  // A request of this call, with what is the same for all of them.
  std::unique_ptr<Request> MakeRequest(int run, int variant, Reservation reservation,
                                       const std::shared_ptr<RequestControl>& control);
  // Answers; only the first time. Counts the call.
  void FinishCall(const absl::Status& status, const google::protobuf::Message* reply,
                  int64_t delivered_tokens);
  // Refuses before any request reached the engine. Counts the refusal.
  void Refuse(int variant, const absl::Status& status);

  // Writes when nothing is in flight. REQUIRES: !write_in_flight().
  void WriteMessage(const google::protobuf::Message& message, absl::Duration oldest_event);
  bool write_in_flight() const { return in_flight_.load(std::memory_order_acquire); }
  // True when what was written last, or what waits, is older than a client may leave it.
  bool ReadsTooSlowly(absl::Duration oldest_waiting) const;
  bool client_gone() const { return gone_.load(std::memory_order_acquire); }
  bool call_finished() const { return finished_; }
  // Before the first request is submitted: from then on the call's state is the writers'. Until
  // then events cannot come, but Wakes can, and must touch nothing.
  void MarkSubmitted() { submitted_.store(true, std::memory_order_release); }
  bool submitted() const { return submitted_.load(std::memory_order_acquire); }

  const Served* const served_;
  const CallContext context_;

 private:
  Responder* const responder_;
  std::atomic<bool> in_flight_{false};
  std::atomic<bool> gone_{false};
  std::atomic<bool> submitted_{false};
  absl::Duration in_flight_since_ = absl::InfiniteDuration();  // its oldest event's arrival
  bool watched_ = false;
  bool finished_ = false;
};

// Reserves for `requests` requests of one prompt, and refuses what cannot be in time. Any thread.
// `variant` -1: several.
absl::StatusOr<std::vector<Reservation>> Admit(const Served& served, const CallContext& context,
                                               int variant, int64_t requests, int64_t prompt_tokens,
                                               int64_t max_tokens);

}  // namespace vernier
