#include "server/score.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "server/replies.h"
#include "server/sample.h"

namespace vernier {

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
  const int64_t bound = spec_.input.TokensBound();
  const int64_t window = WindowTokens();
  const int64_t windows = spec_.window > 0 ? (bound + window - 1) / window : 1;
  auto reservations = Admit(*served_, context_, windows, std::min(bound, window), 0);
  if (!reservations.ok()) return Refuse(spec_.variant, reservations.status());
  reservations_ = *std::move(reservations);
  served_->tasks->Post([self = shared_from_this(), this] { TokenizeAndSubmit(); });
}

void ScoreCall::TokenizeAndSubmit() {
  if (client_gone()) return Refuse(spec_.variant, absl::CancelledError("the client cancelled"));
  auto ids = PromptTokens(spec_.input, *served_->model, Tokenizer::Begin::kAsConfigured);
  if (!ids.ok()) return Refuse(spec_.variant, ids.status());
  ids_ = *std::move(ids);
  if (spec_.window == 0 && static_cast<int64_t>(ids_.size()) > WindowTokens()) {
    ids_.resize(WindowTokens());
    truncated_ = true;
  }
  Submit();
}

void ScoreCall::Submit() {
  const auto tokens = static_cast<int64_t>(ids_.size());
  const int64_t window = WindowTokens();
  std::vector<std::unique_ptr<Request>> requests;
  for (int64_t first = 0; first < tokens; first += window) {
    const int64_t count = std::min(window, tokens - first);
    if (count < 2) break;  // nothing of it is scored
    const size_t run = requests.size();
    reservations_[run].Trim(count);
    auto request =
        MakeRequest(static_cast<int>(run), spec_.variant, std::move(reservations_[run]), control_);
    request->priority = spec_.priority;
    request->prompt.assign(ids_.begin() + first, ids_.begin() + first + count);
    request->score.emplace();
    request->score->top_logprobs = spec_.top_logprobs;
    requests.push_back(std::move(request));
  }
  reservations_.clear();
  results_.resize(requests.size());
  unfinished_ = static_cast<int64_t>(requests.size());
  MarkSubmitted();
  if (requests.empty()) return Wake();
  for (auto& request : requests) served_->engine->Submit(std::move(request));
}

void ScoreCall::OnScores(int run, const ScoreEvent& scores) {
  results_[run].insert(results_[run].end(), scores.results.begin(), scores.results.end());
}

void ScoreCall::OnFinish(int, const FinishEvent& event) {
  --unfinished_;
  RequestEnd end;
  const absl::Status status = StatusOfFinish(event, event.reason);
  end.code = status.code();
  end.reason = event.reason;
  end.event = event;
  served_->metrics->RequestFinished(context_.method, spec_.variant, end);
  if (!status.ok() && failure_.ok()) {
    failure_ = status;
    EndRuns(EndReason::kCancelled);
  }
  last_ = event;
}

void ScoreCall::Flush() {
  if (!submitted() || call_finished() || unfinished_ > 0) return;
  if (!failure_.ok()) return FinishCall(failure_, nullptr, -1);
  FinishReply();
}

void ScoreCall::FinishReply() {
  v1::ScoreResponse reply;
  *reply.mutable_served_by() = ServedByOf(*served_->model, spec_.variant, 0);
  for (const int32_t id : ids_) reply.add_token_ids(id);
  double sum = 0;
  uint64_t scored = 0;
  for (size_t run = 0; run < results_.size(); ++run) {
    const int64_t first = static_cast<int64_t>(run) * WindowTokens();
    for (size_t i = 0; i < results_[run].size(); ++i) {
      const int64_t position = first + 1 + static_cast<int64_t>(i);
      const ScoreResult& result = results_[run][i];
      FillTokenDetail(served_->model->tokenizer.get(), ids_[position], result.logprob, &result.top,
                      spec_.top_logprobs, reply.add_tokens());
      reply.add_positions(static_cast<uint32_t>(position));
      sum += result.logprob;
      ++scored;
    }
  }
  reply.set_sum_logprob(sum);
  reply.set_scored_tokens(scored);
  reply.set_perplexity(scored > 0 ? std::exp(-sum / static_cast<double>(scored))
                                  : std::numeric_limits<double>::quiet_NaN());
  reply.set_truncated(truncated_);
  reply.mutable_usage()->set_prompt_tokens(ids_.size());
  *reply.mutable_timings() = TimingsOf(last_.timings, 0);
  FinishCall(absl::OkStatus(), &reply, -1);
}

}  // namespace vernier
