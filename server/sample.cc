#include "server/sample.h"

#include <algorithm>

#include "server/replies.h"

namespace vernier {

absl::Status StatusOfFinish(const FinishEvent& event, FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
    case FinishReason::kStop:
    case FinishReason::kEos:
    case FinishReason::kLength:
    case FinishReason::kTimeLimit:
      return absl::OkStatus();
    case FinishReason::kCancelled:
      return absl::CancelledError("the client cancelled");
    case FinishReason::kDeadline:
      return absl::DeadlineExceededError("the deadline passed");
    case FinishReason::kSlowConsumer:
      return absl::ResourceExhaustedError("the client reads too slowly");
    case FinishReason::kDrain:
      return event.status.ok() ? absl::UnavailableError("the server is draining") : event.status;
    case FinishReason::kError:
      return event.status.ok() ? absl::InternalError("the request failed") : event.status;
  }
  return absl::OkStatus();
}

SampleOptions SampleOptionsOf(const GenerateSpec& spec, const Model& model) {
  return {.tokenizer = model.tokenizer.get(),
          .stops = spec.stops,
          .include_stop = spec.include_stop,
          .special_as_text = spec.special_as_text,
          .logprobs = spec.sampling.logprobs,
          .seed = spec.sampling.seed};
}

Sample::Sample(const SampleOptions& options) : options_(options) {
  if (options_.tokenizer != nullptr) {
    detokenizer_.emplace(options_.tokenizer, options_.stops, options_.include_stop,
                         options_.special_as_text);
  }
}

bool Sample::Push(int32_t id, bool has_logprob, float logprob, const TopLogprobs* top) {
  if (finished_ || reason_ == FinishReason::kStop) return false;
  ids_.push_back(id);
  if (options_.logprobs >= 0 && has_logprob) {
    FillTokenDetail(options_.tokenizer, id, logprob, top, options_.logprobs,
                    &details_.emplace_back());
  }
  if (top != nullptr && top->count >= 2) {
    margins_.push_back(top->entries[0].logprob - top->entries[1].logprob);
  }
  if (!detokenizer_) return false;
  // A model's vocabulary may be larger than its tokenizer's.
  if (id < options_.tokenizer->vocab_size()) text_ += detokenizer_->Push(id);
  if (detokenizer_->stop() < 0) return false;
  reason_ = FinishReason::kStop;
  return true;
}

void Sample::Finish(const FinishEvent& event) {
  if (finished_) return;
  finished_ = true;
  event_ = event;
  // A stop string found here beats what the engine saw when it ended.
  if (reason_ != FinishReason::kStop) {
    reason_ = event.reason;
    if (detokenizer_) text_ += detokenizer_->Flush();
  } else {
    event_.stop_token = -1;
  }
  status_ = StatusOfFinish(event_, reason_);
}

v1::Delta Sample::TakeDelta(size_t max_bytes) {
  v1::Delta delta;
  delta.set_index(options_.index);
  size_t bytes = 0;
  while (taken_ < ids_.size() && bytes < max_bytes) {
    delta.add_token_ids(ids_[taken_]);
    bytes += 5;
    if (taken_ < details_.size()) {
      bytes += details_[taken_].ByteSizeLong();
      *delta.add_logprobs() = details_[taken_];
    }
    ++taken_;
  }
  // Text waits for its ids. The cut falls between characters.
  if (taken_ == ids_.size()) {
    const size_t room = std::max<size_t>(max_bytes - std::min(bytes, max_bytes), 4);
    size_t cut = text_taken_ + std::min(text_.size() - text_taken_, room);
    while (cut > text_taken_ && cut < text_.size() && (text_[cut] & 0xc0) == 0x80) --cut;
    delta.set_text(text_.substr(text_taken_, cut - text_taken_));
    text_taken_ = cut;
  }
  return delta;
}

v1::Finish Sample::FinishMessage() const {
  v1::Finish out;
  out.set_index(options_.index);
  out.set_finish_reason(FinishReasonOf(reason_));
  if (detokenizer_ && detokenizer_->stop() >= 0) {
    out.set_stop_match(options_.stops[detokenizer_->stop()]);
  }
  if (event_.stop_token >= 0) out.set_stop_token_id(event_.stop_token);
  const auto completion_tokens = static_cast<int64_t>(ids_.size());
  *out.mutable_usage() = UsageOf(event_, completion_tokens);
  *out.mutable_timings() = TimingsOf(event_.timings, completion_tokens);
  return out;
}

v1::Completion Sample::CompletionMessage() const {
  const v1::Finish finish = FinishMessage();
  v1::Completion out;
  out.set_index(options_.index);
  out.set_text(text_);
  out.mutable_token_ids()->Add(ids_.begin(), ids_.end());
  out.mutable_logprobs()->Add(details_.begin(), details_.end());
  out.set_finish_reason(finish.finish_reason());
  out.set_stop_match(finish.stop_match());
  if (finish.has_stop_token_id()) out.set_stop_token_id(finish.stop_token_id());
  out.set_seed(options_.seed);
  *out.mutable_usage() = finish.usage();
  *out.mutable_timings() = finish.timings();
  return out;
}

}  // namespace vernier
