#include "tests/simulation/load.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
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
  int64_t prefix = 0;  // which of the source's texts
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
      arriving = {time, i, about(source.prompt_tokens), about(source.output_tokens)};
      if (source.prefixes > 1) arriving.prefix = Below(&random, source.prefixes);
      arriving.cancel = Chance(&random, source.cancelled)
                            ? time + absl::Milliseconds(Below(&random, 1000))
                            : absl::InfiniteDuration();
    }
  }
  std::stable_sort(arrivals.begin(), arrivals.end(),
                   [](const Arriving& a, const Arriving& b) { return a.time < b.time; });
  return arrivals;
}

// One engine with its admission.
class Replica {
 public:
  Replica(const LoadOptions& options, LoadResult* result)
      : options_(options),
        result_(result),
        ledger_(std::make_shared<AdmissionLedger>(options.admission)),
        scheduler_(options.limits) {}
  ~Replica() {
    EXPECT_EQ(scheduler_.pool().free(), scheduler_.pool().total());
    EXPECT_EQ(ledger_->load().requests, 0);
    EXPECT_EQ(ledger_->load().tokens, 0);
  }

  int64_t requests() const { return ledger_->load().requests; }
  // Steps until `time` has come, or nothing is left to do.
  void AdvanceTo(absl::Duration time) {
    while (now_ < time && !scheduler_.idle()) Step();
    if (scheduler_.idle() && time < absl::InfiniteDuration()) now_ = std::max(now_, time);
  }

  void Arrive(const Arriving& arriving) {
    const LoadSource& source = options_.sources[arriving.source];
    LoadOutcome& outcome = result_->outcomes[arriving.source];
    ++outcome.sent;
    const uint64_t id = result_->requests.size();
    loadtest::Outcome& seen = result_->requests.emplace_back();
    seen.scheduled = seen.sent = seen.ended = absl::ToDoubleSeconds(arriving.time);
    seen.tenant = static_cast<int>(arriving.source);
    seen.variant = source.variant;
    const int64_t prompt_tokens = source.prefix_tokens + arriving.prompt_tokens;
    seen.prompt_tokens = prompt_tokens;
    auto reserved = ledger_->Reserve(
        1, prompt_tokens + arriving.output_tokens,
        {.variant = source.variant, .tenant = source.tenant, .time_left = source.time_limit});
    if (!reserved.ok()) {
      ++outcome.refused;
      seen.ending = loadtest::Ending::kRefused;
      outcome.retry_after.push_back(RetryAfterOf(reserved.status()).value_or(absl::ZeroDuration()));
      return;
    }
    auto request = std::make_unique<Request>();
    request->id = id;
    request->variant = source.variant;
    request->priority = source.priority;
    request->tenant = source.tenant;
    // Behind its first text, unlike every other.
    request->prompt.assign(static_cast<size_t>(prompt_tokens), 1);
    std::fill_n(request->prompt.begin(), source.prefix_tokens,
                static_cast<int32_t>(2 + arriving.prefix));
    request->prompt[static_cast<size_t>(source.prefix_tokens)] = static_cast<int32_t>(id);
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

 private:
  void Step() {
    for (; !cancels_.empty() && cancels_.begin()->first <= now_; cancels_.erase(cancels_.begin())) {
      cancels_.begin()->second->End(EndReason::kCancelled);
    }
    scheduler_.Plan(now_, &plan_);
    if (++result_->steps % 64 == 0) CheckPool(scheduler_);
    TakeEnded();
    if (plan_.empty()) return;
    const absl::Duration took = options_.step + options_.row * plan_.Tokens();
    now_ += took;
    if (plan_.DecodeRows() > 0 && now_ > absl::Seconds(1)) {
      result_->longest_decode = std::max(result_->longest_decode, took);
    }
    const bool in_time = now_ < options_.duration;
    const size_t variant = static_cast<size_t>(plan_.variant);
    if (result_->busy.size() <= variant) result_->busy.resize(variant + 1);
    if (in_time) result_->busy[variant] += took;
    for (const PlannedRows& rows : plan_.rows) {
      if (rows.draws && !rows.sequence->end.has_value()) Draw(rows.sequence, in_time);
    }
    scheduler_.Observe(plan_, took);
    scheduler_.Commit(plan_);
    TakeEnded();
  }

  void Draw(Sequence* sequence, bool in_time) {
    sequence->end = sequence->Append(2);
    sequence->first_result = std::min(sequence->first_result, now_);
    loadtest::Outcome& seen = result_->requests[sequence->request->id];
    result_->outcomes[static_cast<size_t>(seen.tenant)].tokens_in_time += in_time;
    const double at = absl::ToDoubleSeconds(now_);
    if (seen.first < 0) {
      seen.first = at;
    } else {
      seen.gaps.push_back(static_cast<float>(at - seen.last));
    }
    seen.last = at;
    ++seen.output_tokens;
  }

  void TakeEnded() {
    for (const auto& sequence : scheduler_.TakeEnded()) {
      loadtest::Outcome& seen = result_->requests[sequence->request->id];
      LoadOutcome& outcome = result_->outcomes[static_cast<size_t>(seen.tenant)];
      outcome.preemptions += sequence->preemptions;
      outcome.cached_tokens += seen.cached_tokens = sequence->cached_tokens;
      seen.ended = absl::ToDoubleSeconds(now_);
      ledger_->OnFinished(static_cast<int64_t>(sequence->tokens.size()), now_);
      if (sequence->end->reason != FinishReason::kLength) {
        ++outcome.ended;
        seen.ending = sequence->end->reason == FinishReason::kCancelled
                          ? loadtest::Ending::kCancelled
                          : loadtest::Ending::kDeadline;
        continue;
      }
      ++outcome.completed;
      seen.ending = loadtest::Ending::kCompleted;
      outcome.tokens += static_cast<int64_t>(sequence->tokens.size());
      outcome.first_token.push_back(sequence->first_result - sequence->submitted);
    }
  }

  const LoadOptions& options_;
  LoadResult* const result_;
  const std::shared_ptr<TokenSink> sink_ = std::make_shared<NoSink>();
  std::shared_ptr<AdmissionLedger> ledger_;
  Scheduler scheduler_;
  StepPlan plan_;
  absl::Duration now_;
  uint64_t arrived_ = 0;
  std::multimap<absl::Duration, std::shared_ptr<RequestControl>> cancels_;
};

size_t ChooseReplica(const LoadOptions& options, const Arriving& arriving, size_t number,
                     const std::vector<std::unique_ptr<Replica>>& replicas) {
  switch (options.routing) {
    case Routing::kRoundRobin:
      break;
    case Routing::kLeastRequests: {
      const auto least = std::min_element(
          replicas.begin(), replicas.end(),
          [](const auto& a, const auto& b) { return a->requests() < b->requests(); });
      return static_cast<size_t>(least - replicas.begin());
    }
    case Routing::kPrefix:
      return (arriving.source + static_cast<size_t>(arriving.prefix)) % replicas.size();
  }
  return number % replicas.size();
}

}  // namespace

LoadResult RunLoad(const LoadOptions& options) {
  LoadResult result;
  result.outcomes.resize(options.sources.size());
  std::vector<std::unique_ptr<Replica>> replicas;
  for (int i = 0; i < options.replicas; ++i) {
    replicas.push_back(std::make_unique<Replica>(options, &result));
  }
  size_t number = 0;
  for (const Arriving& arriving : Arrivals(options)) {
    for (const auto& replica : replicas) replica->AdvanceTo(arriving.time);
    replicas[ChooseReplica(options, arriving, number++, replicas)]->Arrive(arriving);
  }
  for (const auto& replica : replicas) replica->AdvanceTo(absl::InfiniteDuration());
  return result;
}

loadtest::RunReport ReportOf(const LoadOptions& options, const LoadResult& result,
                             absl::Duration warmup, const loadtest::Slo& slo) {
  loadtest::RunFacts facts{.slo = slo};
  for (const LoadSource& source : options.sources) {
    facts.offered += source.requests_per_second;
    facts.tenants.push_back(source.tenant);
  }
  facts.label = absl::StrCat(options.replicas, " x, rate ", facts.offered);
  facts.window = {absl::ToDoubleSeconds(warmup), absl::ToDoubleSeconds(options.duration)};
  return loadtest::BuildRun(facts, result.requests, {});
}

absl::Duration Percentile(std::vector<absl::Duration> values, double q) {
  if (values.empty()) return absl::ZeroDuration();
  std::sort(values.begin(), values.end());
  const double rank = std::ceil(q * static_cast<double>(values.size()));
  return values[static_cast<size_t>(std::max(1.0, rank)) - 1];
}

}  // namespace vernier::simulation
