#include "server/generate.h"

#include <algorithm>
#include <utility>

#include "server/experiments/answer_checks.h"
#include "server/replies.h"
#include "server/shadow.h"

namespace vernier {
namespace {

// What gRPC may hold unsent of one stream is 64 KiB: messages stay well below.
constexpr size_t kMaxDeltaBytes = 32 << 10;

}  // namespace

GenerateCall::GenerateCall(const Served* served, const CallContext& context, Responder* responder,
                           GenerateSpec spec, Shape shape)
    : EngineCall(served, context, responder), spec_(std::move(spec)), shape_(shape) {
  for (int i = 0; i < spec_.samples; ++i) {
    controls_.push_back(std::make_shared<RequestControl>());
  }
}

void GenerateCall::Start() {
  const int64_t context = served_->engine->max_context();
  auto reservations = Admit(*served_, context_, spec_.variant, spec_.samples,
                            PromptBound(spec_, context), MaxTokensBound(spec_, context));
  if (!reservations.ok()) return Refuse(spec_.variant, reservations.status());
  reservations_ = *std::move(reservations);
  if (spec_.input.kind == PromptInput::Kind::kIds) {
    prompt_ = std::move(spec_.input.ids);
    return Submit();
  }
  served_->tasks->Post([self = shared_from_this(), this] { TokenizeAndSubmit(); });
}

void GenerateCall::TokenizeAndSubmit() {
  if (client_gone()) return Refuse(spec_.variant, absl::CancelledError("the client cancelled"));
  auto prompt = PromptTokens(spec_.input, *served_->model, Tokenizer::Begin::kAsConfigured);
  if (!prompt.ok()) return Refuse(spec_.variant, prompt.status());
  prompt_ = *std::move(prompt);
  Submit();
}

void GenerateCall::Submit() {
  if (absl::Status status =
          CompleteSpec(&spec_, &prompt_, *served_->model, served_->engine->max_context());
      !status.ok()) {
    return Refuse(spec_.variant, status);
  }
  const auto prompt_tokens = static_cast<int64_t>(prompt_.size());
  if (absl::Status status = Route(prompt_tokens); !status.ok()) {
    return Refuse(spec_.variant, status);
  }
  ReserveEvents(spec_.samples * spec_.sampling.max_tokens, spec_.sampling.logprobs > 0);
  std::vector<std::unique_ptr<Request>> requests;
  for (int i = 0; i < spec_.samples; ++i) {
    SampleOptions options = SampleOptionsOf(spec_, *served_->model);
    options.seed += static_cast<uint64_t>(i);
    options.index = static_cast<uint32_t>(i);
    samples_.emplace_back(options);
    reservations_[i].Trim(prompt_tokens + spec_.sampling.max_tokens);
    auto request = MakeRequest(i, spec_.variant, std::move(reservations_[i]), controls_[i]);
    request->priority = spec_.priority;
    request->cache_salt = spec_.cache_salt;
    request->prompt = prompt_;
    request->sampling = spec_.sampling;
    request->sampling.seed = options.seed;
    if (exposure_.logged) request->sampling.logprobs = std::max(request->sampling.logprobs, 0);
    // Prompt log-probabilities are the same for every sample.
    if (i > 0) request->sampling.prompt_logprobs = -1;
    if (spec_.time_limit < absl::InfiniteDuration()) {
      request->time_limit = context_.arrived + spec_.time_limit;
    }
    requests.push_back(std::move(request));
  }
  finish_sent_.resize(spec_.samples, false);
  last_token_.resize(spec_.samples, absl::InfiniteDuration());
  unfinished_ = spec_.samples;
  MarkSubmitted();
  for (auto& request : requests) served_->engine->Submit(std::move(request));
}

absl::Status GenerateCall::Route(int64_t prompt_tokens) {
  if (served_->experiments == nullptr) return absl::OkStatus();
  exposure_ = served_->experiments->Bind({.routing_key = context_.routing_key,
                                          .tenant = context_.tenant,
                                          .prompt_tokens = prompt_tokens,
                                          .variant = spec_.variant,
                                          .named = spec_.variant_named});
  if (exposure_.variant == spec_.variant) return absl::OkStatus();
  spec_.variant = exposure_.variant;
  reservations_.clear();  // they counted for the default variant
  auto reservations = Admit(*served_, context_, spec_.variant, spec_.samples, prompt_tokens,
                            spec_.sampling.max_tokens);
  if (reservations.ok()) {
    reservations_ = *std::move(reservations);
  } else if (exposure_.logged) {
    served_->experiments->End(exposure_, {.code = reservations.status().code()});
  }
  return reservations.status();
}

void GenerateCall::EndRuns(EndReason reason) {
  for (const auto& control : controls_) control->End(reason);
}

void GenerateCall::OnToken(const OutboxEvent& event, const TopLogprobs* top) {
  Sample& sample = samples_[event.run];
  const size_t before = sample.ids().size();
  if (sample.Push(event.id, event.has_logprob, event.logprob, top)) {
    controls_[event.run]->End(EndReason::kStopMatched);
  }
  if (sample.ids().size() == before) return;  // after a stop: not delivered
  has_progress_ = true;
  oldest_waiting_ = std::min(oldest_waiting_, event.arrived);
  served_->metrics->TokenDelivered(spec_.variant);
  absl::Duration& last = last_token_[event.run];
  if (last < absl::InfiniteDuration()) {
    served_->metrics->TokenGap(spec_.variant, event.arrived - last);
    if (exposure_.logged) gaps_.push_back(event.arrived - last);
  }
  last = event.arrived;
  if (event.has_logprob) {
    sum_logprob_ += event.logprob;
    ++logprobs_;
  }
}

void GenerateCall::OnScores(int, const ScoreEvent& scores) {
  for (size_t i = 0; i < scores.results.size(); ++i) {
    const size_t position = static_cast<size_t>(scores.first_position) + i;
    if (position >= prompt_.size()) break;
    FillTokenDetail(served_->model->tokenizer.get(), prompt_[position], scores.results[i].logprob,
                    &scores.results[i].top, spec_.sampling.prompt_logprobs,
                    &prompt_logprobs_.emplace_back());
  }
  has_progress_ = true;
}

void GenerateCall::OnFinish(int run, const FinishEvent& event) {
  Sample& sample = samples_[run];
  sample.Finish(event);
  --unfinished_;
  EndedRequest end;
  end.code = sample.status().code();
  end.reason = sample.reason();
  end.event = event;
  end.delivered_tokens = static_cast<int64_t>(sample.ids().size());
  end.max_tokens = spec_.sampling.max_tokens;
  served_->metrics->RequestFinished(context_.method, spec_.variant, end);
  if (sample.status().ok()) {
    has_progress_ = true;
  } else {
    EndRuns(EndReason::kCancelled);  // one sample's failure is the call's
  }
  if (unfinished_ == 0 && exposure_.logged) EndExposure();
}

void GenerateCall::EndExposure() {
  const Sample& first = samples_.front();
  const Timings& timings = first.event().timings;
  Outcome outcome;
  outcome.code = FirstFailure().code();
  outcome.finish = static_cast<uint8_t>(FinishReasonOf(first.reason()));
  outcome.output_tokens = DeliveredTokens();
  outcome.queue = timings.queue;
  outcome.first_token = timings.first_token;
  outcome.total = clock_->Now() - context_.arrived;
  if (!gaps_.empty()) {
    const auto quantile = [this](double q) {
      const auto at =
          gaps_.begin() + static_cast<int64_t>(q * static_cast<double>(gaps_.size() - 1));
      std::nth_element(gaps_.begin(), at, gaps_.end());
      return *at;
    };
    outcome.token_p50 = quantile(0.5);
    outcome.token_p99 = quantile(0.99);
  }
  for (const Sample& sample : samples_) outcome.not_finite |= sample.event().not_finite;
  if (logprobs_ > 0) {
    outcome.mean_logprob = static_cast<float>(sum_logprob_ / static_cast<double>(logprobs_));
  }
  outcome.loop_rate = static_cast<float>(LoopRate(first.ids()));
  served_->experiments->End(exposure_, outcome);
  if (outcome.code == absl::StatusCode::kOk && !first.ids().empty() &&
      served_->experiments->WantsShadow(exposure_)) {
    served_->shadows->Mirror(
        *served_, context_, exposure_,
        std::make_shared<const Answered>(Answered{.spec = spec_,
                                                  .prompt = prompt_,
                                                  .ids = first.ids(),
                                                  .mean_logprob = outcome.mean_logprob}));
  }
}

v1::ServedBy GenerateCall::ServedBy() const {
  v1::ServedBy out = ServedByOf(*served_->model, spec_.variant, spec_.sampling.seed);
  if (exposure_.experiment != nullptr) {
    out.set_experiment(exposure_.experiment->plan.id);
    if (exposure_.arm >= 0) {
      out.set_arm(exposure_.experiment->plan.arms[static_cast<size_t>(exposure_.arm)].name);
    }
    out.set_exposure_id(exposure_.id());
  }
  return out;
}

absl::Status GenerateCall::FirstFailure() const {
  absl::Status cancelled;
  for (const Sample& sample : samples_) {
    if (sample.status().ok()) continue;
    // What ended the others beats the cancellation that followed from it.
    if (sample.status().code() != absl::StatusCode::kCancelled) return sample.status();
    cancelled = sample.status();
  }
  return cancelled;
}

int64_t GenerateCall::DeliveredTokens() const {
  int64_t tokens = 0;
  for (const Sample& sample : samples_) tokens += static_cast<int64_t>(sample.ids().size());
  return tokens;
}

void GenerateCall::Flush() {
  if (!submitted() || call_finished()) return;
  const absl::Status failure = unfinished_ == 0 ? FirstFailure() : absl::OkStatus();
  if (!failure.ok()) {
    return FinishCall(failure, nullptr, started_ ? DeliveredTokens() : -1);
  }
  if (shape_ == Shape::kStream) {
    FlushStream();
  } else if (unfinished_ == 0) {
    FinishUnary();
  }
}

void GenerateCall::FlushStream() {
  if (ReadsTooSlowly(oldest_waiting_)) EndRuns(EndReason::kSlowConsumer);
  if (write_in_flight()) {
    // The engine is done, the client does not read: nothing else will end this call.
    if (unfinished_ == 0 && (client_gone() || ReadsTooSlowly(oldest_waiting_))) {
      FinishCall(absl::ResourceExhaustedError("the client reads too slowly"), nullptr,
                 DeliveredTokens());
    }
    return;
  }
  if (client_gone()) {
    if (unfinished_ == 0) {
      FinishCall(absl::CancelledError("the client cancelled"), nullptr, DeliveredTokens());
    }
    return;
  }
  v1::GenerateStreamResponse message;
  const absl::Duration oldest = std::min(oldest_waiting_, clock_->Now());
  if (NextMessage(&message)) return WriteMessage(message, oldest);
  if (unfinished_ == 0) FinishCall(absl::OkStatus(), nullptr, -1);
}

bool GenerateCall::NextMessage(v1::GenerateStreamResponse* message) {
  if (!has_progress_) return false;
  if (!started_) {
    started_ = true;
    v1::GenerateStart* start = message->mutable_start();
    *start->mutable_served_by() = ServedBy();
    for (const int32_t id : prompt_) start->add_prompt_token_ids(id);
    start->set_request_id(spec_.request_id);
    return true;
  }
  if (prompt_logprobs_sent_ < prompt_logprobs_.size()) {
    v1::PromptLogprobs* out = message->mutable_prompt_logprobs();
    out->set_first_position(static_cast<uint32_t>(prompt_logprobs_sent_ + 1));
    for (size_t bytes = 0;
         prompt_logprobs_sent_ < prompt_logprobs_.size() && bytes < kMaxDeltaBytes;
         ++prompt_logprobs_sent_) {
      bytes += prompt_logprobs_[prompt_logprobs_sent_].ByteSizeLong();
      *out->add_tokens() = prompt_logprobs_[prompt_logprobs_sent_];
    }
    return true;
  }
  for (Sample& sample : samples_) {
    if (!sample.HasDelta()) continue;
    *message->mutable_delta() = sample.TakeDelta(kMaxDeltaBytes);
    const bool more =
        std::any_of(samples_.begin(), samples_.end(), [](const Sample& s) { return s.HasDelta(); });
    if (!more) oldest_waiting_ = absl::InfiniteDuration();
    return true;
  }
  for (size_t i = 0; i < samples_.size(); ++i) {
    if (!samples_[i].finished() || finish_sent_[i]) continue;
    finish_sent_[i] = true;
    *message->mutable_finish() = samples_[i].FinishMessage();
    return true;
  }
  return false;
}

void GenerateCall::FinishUnary() {
  v1::GenerateResponse reply;
  *reply.mutable_served_by() = ServedBy();
  v1::Usage* usage = reply.mutable_usage();
  for (const Sample& sample : samples_) {
    v1::Completion* completion = reply.add_completions();
    *completion = sample.CompletionMessage();
    usage->set_completion_tokens(usage->completion_tokens() +
                                 completion->usage().completion_tokens());
    usage->set_preemptions(usage->preemptions() + completion->usage().preemptions());
    usage->set_cached_tokens(usage->cached_tokens() + completion->usage().cached_tokens());
  }
  usage->set_prompt_tokens(prompt_.size());
  for (const int32_t id : prompt_) reply.add_prompt_token_ids(id);
  reply.mutable_prompt_logprobs()->Add(prompt_logprobs_.begin(), prompt_logprobs_.end());
  reply.set_request_id(spec_.request_id);
  FinishCall(absl::OkStatus(), &reply, -1);
}

}  // namespace vernier
