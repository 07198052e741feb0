#include "server/outbox.h"

#include <utility>

namespace vernier {

void OutboxBatch::Clear() {
  events.clear();
  tops.clear();
  scores.clear();
  finishes.clear();
}

// The engine's end of one run.
class RunSink : public TokenSink {
 public:
  RunSink(std::shared_ptr<Outbox> outbox, int run) : outbox_(std::move(outbox)), run_(run) {}

  void OnToken(const TokenEvent& event) override {
    OutboxEvent out;
    out.run = run_;
    out.id = event.id;
    out.has_logprob = event.has_logprob;
    out.logprob = event.logprob;
    out.arrived = outbox_->clock_->Now();
    {
      MutexLock lock(&outbox_->mutex_);
      if (event.has_logprob && event.top.count > 0) {
        out.detail = static_cast<int32_t>(outbox_->waiting_.tops.size());
        outbox_->waiting_.tops.push_back(event.top);
      }
      outbox_->waiting_.events.push_back(out);
    }
    outbox_->Wake();
  }

  void OnScores(int64_t first_position, std::span<const ScoreResult> results) override {
    OutboxEvent out;
    out.kind = OutboxEvent::Kind::kScores;
    out.run = run_;
    out.arrived = outbox_->clock_->Now();
    {
      MutexLock lock(&outbox_->mutex_);
      out.detail = static_cast<int32_t>(outbox_->waiting_.scores.size());
      outbox_->waiting_.scores.push_back({first_position, {results.begin(), results.end()}});
      outbox_->waiting_.events.push_back(out);
    }
    outbox_->Wake();
  }

  void OnFinish(const FinishEvent& event) override {
    OutboxEvent out;
    out.kind = OutboxEvent::Kind::kFinish;
    out.run = run_;
    out.arrived = outbox_->clock_->Now();
    {
      MutexLock lock(&outbox_->mutex_);
      out.detail = static_cast<int32_t>(outbox_->waiting_.finishes.size());
      outbox_->waiting_.finishes.push_back(event);
      outbox_->waiting_.events.push_back(out);
    }
    outbox_->Wake();
  }

 private:
  const std::shared_ptr<Outbox> outbox_;
  const int run_;
};

void Outbox::ReserveEvents(int64_t tokens, bool with_tops) {
  MutexLock lock(&mutex_);
  // Both: Drain swaps them.
  for (OutboxBatch* batch : {&waiting_, &draining_}) {
    batch->events.reserve(tokens + 8);
    if (with_tops) batch->tops.reserve(tokens);
  }
}

std::shared_ptr<TokenSink> Outbox::MakeSink(int run) {
  return std::make_shared<RunSink>(shared_from_this(), run);
}

void Outbox::Wake() {
  {
    MutexLock lock(&mutex_);
    again_ = true;
    if (scheduled_) return;
    scheduled_ = true;
  }
  writers_->Post(shared_from_this());
}

void Outbox::Drain() {
  while (true) {
    {
      MutexLock lock(&mutex_);
      if (!again_) {
        scheduled_ = false;
        return;
      }
      again_ = false;
      std::swap(waiting_, draining_);
    }
    for (const OutboxEvent& event : draining_.events) {
      switch (event.kind) {
        case OutboxEvent::Kind::kToken:
          OnToken(event, event.detail >= 0 ? &draining_.tops[event.detail] : nullptr);
          break;
        case OutboxEvent::Kind::kScores:
          OnScores(event.run, draining_.scores[event.detail]);
          break;
        case OutboxEvent::Kind::kFinish:
          OnFinish(event.run, draining_.finishes[event.detail]);
          break;
      }
    }
    draining_.Clear();
    Flush();
  }
}

}  // namespace vernier
