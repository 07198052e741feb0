#include "server/compare.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/status_payload.h"
#include "server/divergence.h"
#include "server/replies.h"

namespace vernier {
namespace {

constexpr size_t kMaxDeltaBytes = 32 << 10;
constexpr int kMarginLogprobs = 2;  // best and second best

}  // namespace

CompareCall::CompareCall(const Served* served, const CallContext& context, Responder* responder,
                         CompareSpec spec, Shape shape)
    : EngineCall(served, context, responder), spec_(std::move(spec)), shape_(shape) {
  for (const int variant : spec_.variants) {
    Part& part = parts_.emplace_back();
    part.variant = variant;
    part.reference = variant == spec_.reference;
  }
  if (spec_.aa_control) {
    Part& part = parts_.emplace_back();
    part.variant = spec_.reference;
    part.control = true;
  }
  for (Part& part : parts_) {
    if (part.reference) reference_ = &part;
  }
  for (int run = 0; run < 2 * num_parts(); ++run) {
    controls_.push_back(std::make_shared<RequestControl>());
  }
}

bool CompareCall::runs_free(const Part& part) const {
  if (spec_.mode != CompareMode::kForced) return true;
  return part.reference && !spec_.forced_given;  // its own output is what is forced
}

void CompareCall::Start() {
  const int64_t context = served_->engine->max_context();
  int64_t requests = 0;
  for (const Part& part : parts_) {
    requests += runs_free(part) ? 1 : 0;
    requests += spec_.mode != CompareMode::kFree ? 1 : 0;
  }
  int64_t prompt = PromptBound(spec_.base, context);
  if (spec_.forced_given) prompt += spec_.forced.TokensBound();
  auto reservations =
      Admit(*served_, context_, -1, requests, prompt, MaxTokensBound(spec_.base, context));
  if (!reservations.ok()) return Refuse(-1, reservations.status());
  reservations_ = *std::move(reservations);
  served_->tasks->Post([self = shared_from_this(), this] { Prepare(); });
}

void CompareCall::Prepare() {
  if (client_gone()) return Refuse(-1, absl::CancelledError("the client cancelled"));
  const Model& model = *served_->model;
  const int64_t context = served_->engine->max_context();
  auto prompt = PromptTokens(spec_.base.input, model, Tokenizer::Begin::kAsConfigured);
  if (!prompt.ok()) return Refuse(-1, prompt.status());
  prompt_ = *std::move(prompt);
  if (absl::Status status = CompleteSpec(&spec_.base, &prompt_, model, context); !status.ok()) {
    return Refuse(-1, status);
  }
  if (spec_.forced_given) {
    auto forced = PromptTokens(spec_.forced, model, Tokenizer::Begin::kNever);
    if (!forced.ok()) return Refuse(-1, forced.status());
    forced_ = *std::move(forced);
    const auto tokens = static_cast<int64_t>(prompt_.size() + forced_.size());
    if (forced_.empty() || tokens > context) {
      return Refuse(-1,
                    InvalidField({"forced_text", absl::StrCat(tokens, " tokens with the prompt"),
                                  absl::StrCat("at most ", context, " tokens")}));
    }
  }
  StartFree();
  MarkSubmitted();
  Wake();  // from here on everything happens on the writers
}

void CompareCall::StartFree() {
  for (int i = 0; i < num_parts(); ++i) {
    if (!runs_free(parts_[i])) continue;
    parts_[i].sample.emplace(SampleOptionsOf(spec_.base, *served_->model));
    planned_.push_back(FreeRequest(i));
  }
  ReserveEvents(static_cast<int64_t>(planned_.size()) * spec_.base.sampling.max_tokens, true);
}

std::unique_ptr<Request> CompareCall::FreeRequest(int index) {
  const Part& part = parts_[index];
  Reservation reservation = std::move(reservations_.back());
  reservations_.pop_back();
  reservation.Trim(static_cast<int64_t>(prompt_.size()) + spec_.base.sampling.max_tokens);
  auto request = MakeRequest(index, part.variant, std::move(reservation), controls_[index]);
  request->priority = spec_.base.priority;
  request->cache_salt = spec_.base.cache_salt;
  request->prompt = prompt_;
  request->sampling = spec_.base.sampling;
  request->sampling.prompt_logprobs = -1;
  if (part.reference) {
    request->sampling.logprobs = std::max(request->sampling.logprobs, kMarginLogprobs);
  }
  if (spec_.base.time_limit < absl::InfiniteDuration()) {
    request->time_limit = context_.arrived + spec_.base.time_limit;
  }
  return request;
}

std::unique_ptr<Request> CompareCall::ForcedRequest(int index) {
  const Part& part = parts_[index];
  Reservation reservation = std::move(reservations_.back());
  reservations_.pop_back();
  reservation.Trim(static_cast<int64_t>(prompt_.size() + forced_.size()));
  const int run = num_parts() + index;
  auto request = MakeRequest(run, part.variant, std::move(reservation), controls_[run]);
  request->priority = spec_.base.priority;
  request->cache_salt = spec_.base.cache_salt;
  request->prompt = prompt_;
  request->prompt.insert(request->prompt.end(), forced_.begin(), forced_.end());
  request->score.emplace();
  request->score->reference_variant = part.reference ? -1 : spec_.reference;
  request->score->overlap_k = spec_.overlap_k;
  request->score->first_target = static_cast<int64_t>(prompt_.size());
  return request;
}

void CompareCall::StartForced() {
  if (spec_.mode == CompareMode::kFree) return;
  if (!spec_.forced_given) {
    if (!reference_->status.ok()) return;  // there is nothing to force
    forced_ = reference_->sample->ids();
  }
  if (forced_.empty()) return;
  for (int i = 0; i < num_parts(); ++i) {
    // A variant that failed once keeps its failure.
    if (parts_[i].status.ok()) planned_.push_back(ForcedRequest(i));
  }
}

void CompareCall::SubmitNext() {
  while (!planned_.empty() && (!spec_.serial || running_ == 0)) {
    std::unique_ptr<Request> request = std::move(planned_.front());
    planned_.pop_front();
    ++running_;
    served_->engine->Submit(std::move(request));
  }
}

void CompareCall::NextPhase() {
  SubmitNext();
  while (running_ == 0 && planned_.empty() && phase_ != Phase::kDone) {
    if (phase_ == Phase::kFree) {
      phase_ = Phase::kForced;
      StartForced();
    } else {
      phase_ = Phase::kDone;
    }
    SubmitNext();
  }
}

void CompareCall::EndRuns(EndReason reason) {
  for (const auto& control : controls_) control->End(reason);
}

void CompareCall::OnToken(const OutboxEvent& event, const TopLogprobs* top) {
  if (!requests_running_) {
    int64_t running = -running_;
    for (const VariantLoad& load : served_->engine->Snapshot().variants) running += load.running;
    requests_running_ = static_cast<uint32_t>(std::max<int64_t>(running, 0));
  }
  Part& part = parts_[event.run];
  const size_t before = part.sample->ids().size();
  if (part.sample->Push(event.id, event.has_logprob, event.logprob, top)) {
    controls_[event.run]->End(EndReason::kStopMatched);
  }
  if (part.sample->ids().size() == before) return;
  oldest_waiting_ = std::min(oldest_waiting_, event.arrived);
  served_->metrics->TokenDelivered(part.variant);
  if (part.last_token < absl::InfiniteDuration()) {
    served_->metrics->TokenGap(part.variant, event.arrived - part.last_token);
  }
  part.last_token = event.arrived;
}

void CompareCall::OnScores(int run, const ScoreEvent& scores) {
  if (run < num_parts()) return;
  std::vector<ScoreResult>& out = parts_[run - num_parts()].scores;
  out.insert(out.end(), scores.results.begin(), scores.results.end());
}

void CompareCall::OnFinish(int run, const FinishEvent& event) {
  --running_;
  const bool free = run < num_parts();
  Part& part = parts_[free ? run : run - num_parts()];
  EndedRequest end;
  end.event = event;
  absl::Status status;
  if (free) {
    part.sample->Finish(event);
    status = part.sample->status();
    end.reason = part.sample->reason();
    end.delivered_tokens = static_cast<int64_t>(part.sample->ids().size());
    end.max_tokens = spec_.base.sampling.max_tokens;
  } else {
    status = StatusOfFinish(event, event.reason);
    end.reason = event.reason;
    part.scored = status.ok();
  }
  end.code = status.code();
  if (part.status.ok()) part.status = status;
  served_->metrics->RequestFinished(context_.method, part.variant, end);
}

void CompareCall::FindDivergences() {
  if (!reference_->sample || spec_.mode == CompareMode::kForced) return;
  const std::vector<int32_t>& reference = reference_->sample->ids();
  for (Part& part : parts_) {
    if (part.reference || part.parted || !part.sample) continue;
    const std::vector<int32_t>& ids = part.sample->ids();
    while (part.compared < std::min(ids.size(), reference.size()) &&
           ids[part.compared] == reference[part.compared]) {
      ++part.compared;
    }
    if (part.compared == std::min(ids.size(), reference.size())) continue;
    part.parted = true;
    if (shape_ != Shape::kStream) continue;
    v1::Divergence* event = events_.emplace_back().mutable_divergence();
    event->set_variant(NameOf(part));
    event->set_position(part.compared);
    if (part.compared < reference_->sample->margins().size()) {
      event->set_margin(reference_->sample->margins()[part.compared]);
    }
  }
}

void CompareCall::Flush() {
  if (!submitted() || call_finished()) return;
  NextPhase();
  FindDivergences();
  if (phase_ == Phase::kDone && !summary_) Finish();
  if (!call_finished() && shape_ == Shape::kStream) FlushStream();
}

int64_t CompareCall::DeliveredTokens() const {
  int64_t tokens = 0;
  for (const Part& part : parts_) {
    if (part.sample) tokens += static_cast<int64_t>(part.sample->ids().size());
  }
  return tokens;
}

void CompareCall::FlushStream() {
  if (ReadsTooSlowly(oldest_waiting_)) {
    EndRuns(EndReason::kSlowConsumer);
    if (phase_ == Phase::kDone) {
      return FinishCall(absl::ResourceExhaustedError("the client reads too slowly"), nullptr,
                        DeliveredTokens());
    }
  }
  if (write_in_flight()) return;
  if (client_gone()) {
    if (phase_ == Phase::kDone) {
      FinishCall(absl::CancelledError("the client cancelled"), nullptr, DeliveredTokens());
    }
    return;
  }
  v1::CompareStreamResponse message;
  const absl::Duration oldest = std::min(oldest_waiting_, clock_->Now());
  if (!events_.empty()) {
    message = std::move(events_.front());
    events_.pop_front();
    started_ = true;
    return WriteMessage(message, oldest);
  }
  const auto waiting = [&](const Part& part) {
    return part.sample && part.sample->HasDelta() && spec_.mode != CompareMode::kForced;
  };
  for (Part& part : parts_) {
    if (!waiting(part)) continue;
    auto* delta = message.mutable_delta();
    delta->set_variant(served_->model->variants[part.variant].name);
    delta->set_is_control(part.control);
    *delta->mutable_delta() = part.sample->TakeDelta(kMaxDeltaBytes);
    if (std::none_of(parts_.begin(), parts_.end(), waiting)) {
      oldest_waiting_ = absl::InfiniteDuration();
    }
    started_ = true;
    return WriteMessage(message, oldest);
  }
  if (!summary_) return;
  if (summary_sent_) return FinishCall(absl::OkStatus(), nullptr, -1);
  summary_sent_ = true;
  *message.mutable_summary() = *summary_;
  WriteMessage(message, clock_->Now());
}

}  // namespace vernier
