#include "tests/simulation/load.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <random>
#include <utility>

#include "engine/status_payload.h"
#include "tests/simulation/invariants.h"
#include "tests/simulation/traffic.h"

namespace vernier::simulation {
namespace {

class NoSink : public TokenSink {
 public:
  void OnToken(const TokenEvent&) override {}
  void OnScores(int64_t, std::span<const ScoreResult>) override {}
  void OnFinish(const FinishEvent&) override {}
};

struct Arriving {
  absl::Duration time;
  size_t source = 0;
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;
  absl::Duration cancel = absl::InfiniteDuration();
};

// (0, 1].
double Uniform(std::mt19937_64* random) {
  return (static_cast<double>((*random)() >> 11) + 1) * 0x1p-53;
}

std::vector<Arriving> Arrivals(const LoadOptions& options) {
  std::vector<Arriving> arrivals;
  for (size_t i = 0; i < options.sources.size(); ++i) {
    const LoadSource& source = options.sources[i];
    // Its own stream of draws: another source beside it changes nothing of what it sends.
    std::mt19937_64 random(options.seed * 1000 + i);
    const auto about = [&](int64_t mean) { return mean / 2 + Below(&random, mean) + 1; };
    absl::Duration time;
    while (true) {
      time += absl::Seconds(-std::log(Uniform(&random)) / source.requests_per_second);
      if (time >= options.duration) break;
      Arriving& arriving = arrivals.emplace_back();
      arriving = {time, i, about(source.prompt_tokens), about(source.output_tokens), {}};
      arriving.cancel = Chance(&random, source.cancelled)
                            ? time + absl::Milliseconds(Below(&random, 1000))
                            : absl::InfiniteDuration();
    }
  }
  std::stable_sort(arrivals.begin(), arrivals.end(),
                   [](const Arriving& a, const Arriving& b) { return a.time < b.time; });
  return arrivals;
}

class Load {
 public:
  explicit Load(const LoadOptions& options)
      : options_(options),
        arrivals_(Arrivals(options)),
        ledger_(std::make_shared<AdmissionLedger>(options.admission)),
        scheduler_(options.limits) {
    result_.outcomes.resize(options.sources.size());
  }

  LoadResult Run() {
    while (next_ < arrivals_.size() || !scheduler_.idle()) {
      if (scheduler_.idle()) now_ = std::max(now_, arrivals_[next_].time);
      while (next_ < arrivals_.size() && arrivals_[next_].time <= now_) Arrive(arrivals_[next_++]);
      Step();
    }
    EXPECT_EQ(scheduler_.pool().free(), scheduler_.pool().total());
    EXPECT_EQ(ledger_->load().requests, 0);
    EXPECT_EQ(ledger_->load().tokens, 0);
    return std::move(result_);
  }

 private:
  void Arrive(const Arriving& arriving) {
    const LoadSource& source = options_.sources[arriving.source];
    LoadOutcome& outcome = result_.outcomes[arriving.source];
    ++outcome.sent;
    auto reserved = ledger_->Reserve(
        1, arriving.prompt_tokens + arriving.output_tokens,
        {.variant = source.variant, .tenant = source.tenant, .time_left = source.time_limit});
    if (!reserved.ok()) {
      ++outcome.refused;
      outcome.retry_after.push_back(RetryAfterOf(reserved.status()).value_or(absl::ZeroDuration()));
      return;
    }
    auto request = std::make_unique<Request>();
    request->id = arriving.source;
    request->variant = source.variant;
    request->priority = source.priority;
    request->tenant = source.tenant;
    // Unlike every other.
    request->prompt.assign(static_cast<size_t>(arriving.prompt_tokens), 1);
    request->prompt[0] = static_cast<int32_t>(arrived_);
    request->sampling.max_tokens = arriving.output_tokens;
    request->time_limit = arriving.time + source.time_limit;
    request->reservation = std::move(reserved->front());
    request->control = std::make_shared<RequestControl>();
    request->sink = sink_;
    if (arriving.cancel < absl::InfiniteDuration()) {
      cancels_.emplace(arriving.cancel, request->control);
    }
    scheduler_.Add(std::make_unique<Sequence>(std::move(request), arrived_++, arriving.time,
                                              std::vector<int32_t>{}));
  }

  void Step() {
    for (; !cancels_.empty() && cancels_.begin()->first <= now_; cancels_.erase(cancels_.begin())) {
      cancels_.begin()->second->End(EndReason::kCancelled);
    }
    scheduler_.Plan(now_, &plan_);
    if (++result_.steps % 64 == 0) CheckPool(scheduler_);
    TakeEnded();
    if (plan_.empty()) return;
    const absl::Duration took = options_.step + options_.row * plan_.Tokens();
    now_ += took;
    if (plan_.DecodeRows() > 0 && now_ > absl::Seconds(1)) {
      result_.longest_decode = std::max(result_.longest_decode, took);
    }
    const bool in_time = now_ < options_.duration;
    const size_t variant = static_cast<size_t>(plan_.variant);
    if (result_.busy.size() <= variant) result_.busy.resize(variant + 1);
    if (in_time) result_.busy[variant] += took;
    for (const PlannedRows& rows : plan_.rows) {
      if (!rows.draws || rows.sequence->end.has_value()) continue;
      rows.sequence->end = rows.sequence->Append(2);
      rows.sequence->first_result = std::min(rows.sequence->first_result, now_);
      result_.outcomes[rows.sequence->request->id].tokens_in_time += in_time;
    }
    scheduler_.Observe(plan_, took);
    scheduler_.Commit(plan_);
    TakeEnded();
  }

  void TakeEnded() {
    for (const auto& sequence : scheduler_.TakeEnded()) {
      LoadOutcome& outcome = result_.outcomes[sequence->request->id];
      outcome.preemptions += sequence->preemptions;
      ledger_->OnFinished(static_cast<int64_t>(sequence->tokens.size()), now_);
      if (sequence->end->reason != FinishReason::kLength) {
        ++outcome.ended;
        continue;
      }
      ++outcome.completed;
      outcome.tokens += static_cast<int64_t>(sequence->tokens.size());
      outcome.first_token.push_back(sequence->first_result - sequence->submitted);
    }
  }

  const LoadOptions options_;
  const std::vector<Arriving> arrivals_;
  const std::shared_ptr<TokenSink> sink_ = std::make_shared<NoSink>();
  std::shared_ptr<AdmissionLedger> ledger_;
  Scheduler scheduler_;
  StepPlan plan_;
  absl::Duration now_;
  size_t next_ = 0;
  uint64_t arrived_ = 0;
  std::multimap<absl::Duration, std::shared_ptr<RequestControl>> cancels_;
  LoadResult result_;
};

}  // namespace

LoadResult RunLoad(const LoadOptions& options) { return Load(options).Run(); }

absl::Duration Percentile(std::vector<absl::Duration> values, double q) {
  if (values.empty()) return absl::ZeroDuration();
  std::sort(values.begin(), values.end());
  const double rank = std::ceil(q * static_cast<double>(values.size()));
  return values[static_cast<size_t>(std::max(1.0, rank)) - 1];
}

double JainIndex(const std::vector<double>& values) {
  double sum = 0, squares = 0;
  for (const double value : values) {
    sum += value;
    squares += value * value;
  }
  return squares == 0 ? 1 : sum * sum / (static_cast<double>(values.size()) * squares);
}

}  // namespace vernier::simulation
