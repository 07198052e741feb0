#include "server/call.h"

#include <algorithm>
#include <utility>

#include "engine/status_payload.h"

namespace vernier {

void EngineCall::Cancel() {
  gone_.store(true, std::memory_order_release);
  // A client whose deadline passed cancels as well; say which it was. The deadline came as a
  // timeout that gRPC rounds up, by at most 1 %, and that begins here when the call has arrived.
  const absl::Duration timeout = context_.deadline - context_.arrived;
  const absl::Duration slack =
      std::clamp(timeout / 100, std::min(timeout / 10, absl::Milliseconds(20)), absl::Seconds(1));
  const bool late = clock_->Now() >= context_.deadline - slack;
  EndRuns(late ? EndReason::kDeadline : EndReason::kCancelled);
  Wake();
}

void EngineCall::OnWritten(bool ok) {
  if (!ok) gone_.store(true, std::memory_order_release);
  in_flight_.store(false, std::memory_order_release);
  Wake();
}

std::unique_ptr<Request> EngineCall::MakeRequest(int run, int variant, Reservation reservation,
                                                 const std::shared_ptr<RequestControl>& control) {
  auto request = std::make_unique<Request>();
  request->id = served_->next_request_id->fetch_add(1, std::memory_order_relaxed);
  request->variant = variant;
  request->tenant = context_.tenant;
  request->deadline = context_.deadline;
  request->reservation = std::move(reservation);
  request->control = control;
  request->sink = MakeSink(run);
  return request;
}

void EngineCall::FinishCall(const absl::Status& status, const google::protobuf::Message* reply,
                            int64_t delivered_tokens) {
  if (finished_) return;
  finished_ = true;
  if (watched_) served_->writers->Unwatch(this);
  served_->metrics->CallFinished(context_.method, status.code(), clock_->Now() - context_.arrived);
  responder_->Finish(status, reply, delivered_tokens);
}

void EngineCall::Refuse(int variant, const absl::Status& status) {
  served_->metrics->Rejected(context_.method, variant, status);
  FinishCall(status, nullptr, -1);
}

void EngineCall::WriteMessage(const google::protobuf::Message& message,
                              absl::Duration oldest_event) {
  if (!watched_) {
    watched_ = true;
    served_->writers->Watch(weak_from_this(), this);
  }
  in_flight_since_ = oldest_event;
  in_flight_.store(true, std::memory_order_release);
  responder_->Write(message);
}

bool EngineCall::ReadsTooSlowly(absl::Duration oldest_waiting) const {
  if (!write_in_flight()) return false;
  return clock_->Now() - std::min(in_flight_since_, oldest_waiting) > served_->slow_consumer;
}

absl::StatusOr<std::vector<Reservation>> Admit(const Served& served, const CallContext& context,
                                               int variant, int64_t requests, int64_t prompt_tokens,
                                               int64_t max_tokens) {
  const absl::Duration time_left = context.deadline - served.clock->Now();
  if (time_left <= absl::ZeroDuration()) {
    return Rejected(RejectReason::kDeadlineInfeasible, "the deadline has passed",
                    -absl::Seconds(1));
  }
  const int64_t room = std::max<int64_t>(1, served.engine->max_context() - max_tokens);
  auto reservations = served.engine->Reserve(
      requests, std::min(prompt_tokens, room), max_tokens,
      {.variant = variant, .tenant = context.tenant, .time_left = time_left});
  if (RejectReasonOf(reservations.status()) == RejectReason::kDraining) {
    // Another instance takes over within a moment: a retry helps.
    return Rejected(RejectReason::kDraining, "the server is draining", absl::Seconds(1));
  }
  return reservations;
}

}  // namespace vernier
