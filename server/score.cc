#include "server/score.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/status_payload.h"
#include "server/replies.h"
#include "server/sample.h"

namespace vernier {
namespace {

// Scored tokens and their alternatives in one answer, which is held in memory as a whole.
constexpr int64_t kMaxScoreEntries = 1 << 19;

}  // namespace

ScoreCall::ScoreCall(const Served* served, const CallContext& context, Responder* responder,
                     ScoreSpec spec, std::string request_id)
    : EngineCall(served, context, responder),
      spec_(std::move(spec)),
      request_id_(std::move(request_id)),
      control_(std::make_shared<RequestControl>()) {}

int64_t ScoreCall::WindowTokens() const {
  return spec_.window > 0 ? spec_.window : served_->engine->max_context();
}

void ScoreCall::Start() {
  const int64_t tokens = std::min(spec_.input.TokensBound(), WindowTokens());
  auto reservations = Admit(*served_, context_, spec_.variant, 1, tokens, 0);
  if (!reservations.ok()) return Refuse(spec_.variant, reservations.status());
  reservation_ = std::move(reservations->front());
  served_->tasks->Post([self = shared_from_this(), this] { Prepare(); });
}

void ScoreCall::Prepare() {
  if (client_gone()) return Refuse(spec_.variant, absl::CancelledError("the client cancelled"));
  auto ids = PromptTokens(spec_.input, *served_->model, Tokenizer::Begin::kAsConfigured);
  if (!ids.ok()) return Refuse(spec_.variant, ids.status());
  ids_ = *std::move(ids);
  if (spec_.window == 0 && static_cast<int64_t>(ids_.size()) > WindowTokens()) {
    ids_.resize(WindowTokens());
    reply_.set_truncated(true);
  }
  const auto tokens = static_cast<int64_t>(ids_.size());
  if (tokens * (1 + spec_.top_logprobs) > kMaxScoreEntries) {
    return Refuse(spec_.variant,
                  InvalidField({"logprobs",
                                absl::StrCat(tokens, " tokens with ", spec_.top_logprobs,
                                             " alternatives each"),
                                absl::StrCat("at most ", kMaxScoreEntries, " of both together")}));
  }
  reservation_.Trim(std::min(tokens, WindowTokens()));
  MarkSubmitted();
  Wake();  // from here on everything happens on the writers
}

// False when no window is left that has something to score.
bool ScoreCall::SubmitNextWindow() {
  const auto tokens = static_cast<int64_t>(ids_.size());
  const int64_t count = std::min(WindowTokens(), tokens - next_window_);
  if (count < 2) return false;
  window_first_ = next_window_;
  next_window_ += count;
  running_ = true;
  // The reservation stays here: the next window needs it.
  auto request = MakeRequest(0, spec_.variant, Reservation(), control_);
  request->priority = spec_.priority;
  const auto first = ids_.begin() + window_first_;
  request->prompt.assign(first, first + count);
  request->score.emplace();
  request->score->top_logprobs = spec_.top_logprobs;
  served_->engine->Submit(std::move(request));
  return true;
}

void ScoreCall::OnScores(int, const ScoreEvent& scores) {
  int64_t position = window_first_ + scores.first_position;
  for (const ScoreResult& result : scores.results) {
    FillTokenDetail(served_->model->tokenizer.get(), ids_[position], result.logprob, &result.top,
                    spec_.top_logprobs, reply_.add_tokens());
    reply_.add_positions(static_cast<uint32_t>(position));
    reply_.set_sum_logprob(reply_.sum_logprob() + result.logprob);
    ++position;
  }
}

void ScoreCall::OnFinish(int, const FinishEvent& event) {
  running_ = false;
  EndedRequest end;
  const absl::Status status = StatusOfFinish(event, event.reason);
  end.code = status.code();
  end.reason = event.reason;
  end.event = event;
  served_->metrics->RequestFinished(context_.method, spec_.variant, end);
  v1::Usage* usage = reply_.mutable_usage();
  usage->set_cached_tokens(usage->cached_tokens() + static_cast<uint64_t>(event.cached_tokens));
  failure_.Update(status);
  const Timings& timings = event.timings;
  if (window_first_ == 0) {
    timings_ = timings;
  } else {
    timings_.prefill += timings.prefill;
    timings_.total += timings.total;
  }
}

void ScoreCall::Flush() {
  if (!submitted() || call_finished() || running_) return;
  if (failure_.ok() && SubmitNextWindow()) return;
  reservation_.Release();
  if (!failure_.ok()) return FinishCall(failure_, nullptr, -1);
  FinishReply();
}

void ScoreCall::FinishReply() {
  *reply_.mutable_served_by() = ServedByOf(*served_->model, spec_.variant, 0);
  for (const int32_t id : ids_) reply_.add_token_ids(id);
  const auto scored = static_cast<uint64_t>(reply_.tokens_size());
  reply_.set_scored_tokens(scored);
  reply_.set_perplexity(scored > 0 ? std::exp(-reply_.sum_logprob() / static_cast<double>(scored))
                                   : std::numeric_limits<double>::quiet_NaN());
  reply_.mutable_usage()->set_prompt_tokens(ids_.size());
  *reply_.mutable_timings() = TimingsOf(timings_, 0);
  FinishCall(absl::OkStatus(), &reply_, -1);
}

}  // namespace vernier
