#include "server/shadow.h"

#include <algorithm>
#include <utility>

#include "server/divergence.h"
#include "server/experiments/answer_checks.h"
#include "server/replies.h"

namespace vernier {
namespace {

constexpr absl::Duration kDeadline = absl::Seconds(300);
enum Run { kAnswer, kScore, kRuns };

// Nobody listens.
class NoResponder : public Responder {
 public:
  void Write(const google::protobuf::Message&) override {}
  void Finish(const absl::Status&, const google::protobuf::Message*, int64_t) override {}
};

NoResponder* Nobody() {
  static NoResponder nobody;
  return &nobody;
}

CallContext ContextOf(const Served& served, const CallContext& context) {
  CallContext out;
  out.method = Method::kShadow;
  out.arrived = served.clock->Now();
  out.deadline = out.arrived + kDeadline;
  out.tenant = context.tenant;
  return out;
}

uint32_t Count(size_t count) { return static_cast<uint32_t>(std::min<size_t>(count, UINT32_MAX)); }

}  // namespace

class ShadowCall : public EngineCall {
 public:
  // `bound` is the shadow's record as logged. Gives its place in `pool` back at its end.
  ShadowCall(const Served* served, const CallContext& context, ShadowPool* pool,
             const ExposureRecord& bound, int variant, int reference,
             std::shared_ptr<const Answered> answered)
      : EngineCall(served, context, Nobody()),
        pool_(pool),
        record_(bound),
        variant_(variant),
        reference_(reference),
        answered_(std::move(answered)),
        sample_(SilentOptions(*served, answered_->spec)) {
    for (auto& control : controls_) control = std::make_shared<RequestControl>();
  }

  void Start() override {
    served_->metrics->CallStarted(context_.method);
    const auto prompt = static_cast<int64_t>(answered_->prompt.size());
    const auto answer = static_cast<int64_t>(answered_->ids.size());
    const int64_t most = std::max(answered_->spec.sampling.max_tokens, answer);
    auto reservations = Admit(*served_, context_, variant_, kRuns, prompt, most);
    if (!reservations.ok()) return End(reservations.status());
    ReserveEvents(most, false);
    std::unique_ptr<Request> requests[kRuns];
    for (int run = 0; run < kRuns; ++run) {
      requests[run] = MakeRequest(run, variant_, std::move((*reservations)[run]), controls_[run]);
      requests[run]->priority = Priority::kLow;
      requests[run]->cache_salt = answered_->spec.cache_salt;
      requests[run]->prompt = answered_->prompt;
    }
    Request& draw = *requests[kAnswer];
    draw.sampling = answered_->spec.sampling;
    draw.sampling.logprobs = 0;
    draw.sampling.prompt_logprobs = -1;
    Request& score = *requests[kScore];
    score.prompt.insert(score.prompt.end(), answered_->ids.begin(), answered_->ids.end());
    score.score.emplace();
    score.score->reference_variant = reference_;
    score.score->first_target = prompt;
    MarkSubmitted();
    for (auto& request : requests) served_->engine->Submit(std::move(request));
  }

 protected:
  void EndRuns(EndReason reason) override {
    for (const auto& control : controls_) control->End(reason);
  }
  void OnToken(const OutboxEvent& event, const TopLogprobs* top) override {
    if (sample_.Push(event.id, event.has_logprob, event.logprob, top)) {
      controls_[kAnswer]->End(EndReason::kStopMatched);
    }
    if (event.has_logprob) sum_logprob_ += event.logprob;
    ++drawn_;
  }
  void OnScores(int, const ScoreEvent& scores) override {
    scores_.insert(scores_.end(), scores.results.begin(), scores.results.end());
  }
  void OnFinish(int run, const FinishEvent& event) override {
    absl::Status status = StatusOfFinish(event, event.reason);
    if (run == kAnswer) sample_.Finish(event);
    not_finite_ |= event.not_finite;
    if (status_.ok()) status_ = std::move(status);
    if (!status_.ok()) EndRuns(EndReason::kCancelled);  // half a shadow says nothing
    ++finished_runs_;
  }
  void Flush() override {
    if (!submitted() || call_finished() || finished_runs_ < kRuns) return;
    End(status_);
  }

 private:
  // As the request's own, but nobody asks for log-probabilities.
  static SampleOptions SilentOptions(const Served& served, const GenerateSpec& spec) {
    SampleOptions options = SampleOptionsOf(spec, *served.model);
    options.logprobs = -1;
    return options;
  }

  void End(const absl::Status& status) {
    const std::vector<int32_t>& ids = sample_.ids();
    record_.output_tokens = Count(ids.size());
    if (drawn_ > 0) {
      record_.mean_logprob = static_cast<float>(sum_logprob_ / static_cast<double>(drawn_));
    }
    record_.reference_tokens = Count(answered_->ids.size());
    record_.reference_logprob = answered_->mean_logprob;
    record_.kind = ExposureKind::kDone;
    record_.grpc_status = static_cast<uint8_t>(status.code());
    record_.finish = static_cast<uint8_t>(FinishReasonOf(sample_.reason()));
    record_.loop_rate = static_cast<float>(LoopRate(ids));
    record_.not_finite = not_finite_ ? 1 : 0;
    served_->experiments->Log(record_);
    if (status.ok()) LogScores(ids);
    pool_->running_.fetch_sub(1, std::memory_order_relaxed);
    FinishCall(status, nullptr, -1);
  }

  void LogScores(const std::vector<int32_t>& ids) {
    double kl = 0, agreed = 0;
    for (const ScoreResult& score : scores_) {
      kl += score.kl_from_reference;
      agreed += score.top1 == score.reference_top1 ? 1 : 0;
    }
    const auto count = static_cast<double>(std::max<size_t>(1, scores_.size()));
    record_.kind = ExposureKind::kScored;
    record_.score_tokens = Count(scores_.size());
    record_.score_kl = static_cast<float>(kl / count);
    record_.score_top1 = static_cast<float>(agreed / count);
    record_.same_tokens = static_cast<uint32_t>(FirstDifference(ids, answered_->ids));
    record_.equal = ids == answered_->ids ? 1 : 0;
    served_->experiments->Log(record_);
  }

  ShadowPool* const pool_;
  ExposureRecord record_;
  const int variant_, reference_;
  const std::shared_ptr<const Answered> answered_;
  std::shared_ptr<RequestControl> controls_[kRuns];

  // Of the writer in Drain.
  Sample sample_;
  std::vector<ScoreResult> scores_;
  double sum_logprob_ = 0;
  int64_t drawn_ = 0;
  bool not_finite_ = false;
  int finished_runs_ = 0;
  absl::Status status_;
};

bool ShadowPool::TryBegin(const Served& served) {
  int64_t waiting = 0;
  for (const VariantLoad& load : served.engine->Snapshot().variants) waiting += load.waiting;
  // Shadows may wait for each other.
  if (waiting > kRuns * running_.load(std::memory_order_relaxed)) return false;
  if (running_.fetch_add(1, std::memory_order_relaxed) < most_) return true;
  running_.fetch_sub(1, std::memory_order_relaxed);
  return false;
}

void ShadowPool::Mirror(const Served& served, const CallContext& context, const Exposure& exposure,
                        const std::shared_ptr<const Answered>& answered) {
  Experiments* experiments = served.experiments;
  const Definition& definition = *exposure.experiment;
  for (int arm = 0; arm < static_cast<int>(definition.variants.size()); ++arm) {
    const int variant = definition.variants[static_cast<size_t>(arm)];
    if (arm == exposure.arm || !served.model->variants[static_cast<size_t>(variant)].loaded)
      continue;
    ExposureRecord record = experiments->BindShadow(exposure, arm);
    if (!TryBegin(served)) {
      record.kind = ExposureKind::kDone;
      record.grpc_status = static_cast<uint8_t>(absl::StatusCode::kResourceExhausted);
      experiments->Log(record);
      continue;
    }
    std::make_shared<ShadowCall>(&served, ContextOf(served, context), this, record, variant,
                                 exposure.variant, answered)
        ->Start();
  }
}

}  // namespace vernier
