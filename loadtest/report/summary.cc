#include "loadtest/report/summary.h"

#include <algorithm>
#include <cmath>

namespace vernier::loadtest {
namespace {

// Figures of one distribution: five rows of the table.
#define VERNIER_PERCENTILES(member)                                                              \
  {#member "_mean_seconds", Better::kLower, [](const Summary& s) { return s.member.mean; }},     \
      {#member "_p50_seconds", Better::kLower, [](const Summary& s) { return s.member.p50; }},   \
      {#member "_p90_seconds", Better::kLower, [](const Summary& s) { return s.member.p90; }},   \
      {#member "_p99_seconds", Better::kLower, [](const Summary& s) { return s.member.p99; }}, { \
#member "_max_seconds", Better::kLower, [](const Summary& s) { return s.member.max; }        \
  }
#define VERNIER_COUNT(member, better)                                               \
  {                                                                                 \
#member, better, [](const Summary& s) { return static_cast<double>(s.member); } \
  }

constexpr SummaryField kFields[] = {
    {"seconds", Better::kNeither, [](const Summary& s) { return s.seconds; }},
    VERNIER_COUNT(sent, Better::kNeither),
    VERNIER_COUNT(completed, Better::kHigher),
    VERNIER_COUNT(refused, Better::kLower),
    VERNIER_COUNT(deadline, Better::kLower),
    VERNIER_COUNT(cancelled, Better::kNeither),
    VERNIER_COUNT(failed, Better::kLower),
    VERNIER_COUNT(unfinished, Better::kLower),
    VERNIER_COUNT(good, Better::kHigher),
    {"offered_per_second", Better::kNeither, [](const Summary& s) { return s.OfferedRate(); }},
    {"completed_per_second", Better::kHigher,
     [](const Summary& s) { return s.PerSecond(s.completed); }},
    {"goodput_per_second", Better::kHigher, [](const Summary& s) { return s.Goodput(); }},
    {"attained_share", Better::kHigher, [](const Summary& s) { return s.Attained(); }},
    {"prompt_tokens_per_second", Better::kHigher,
     [](const Summary& s) { return s.PerSecond(s.prompt_tokens); }},
    {"output_tokens_per_second", Better::kHigher, [](const Summary& s) { return s.OutputRate(); }},
    {"cached_tokens_per_second", Better::kNeither,
     [](const Summary& s) { return s.PerSecond(s.cached_tokens); }},
    VERNIER_PERCENTILES(first_token),
    VERNIER_PERCENTILES(per_token),
    VERNIER_PERCENTILES(inter_token),
    VERNIER_PERCENTILES(end_to_end),
    VERNIER_PERCENTILES(refusal),
    VERNIER_PERCENTILES(send_delay),
};
#undef VERNIER_PERCENTILES
#undef VERNIER_COUNT

int64_t* CounterOf(Ending ending, Summary* summary) {
  switch (ending) {
    case Ending::kCompleted:
      return &summary->completed;
    case Ending::kRefused:
      return &summary->refused;
    case Ending::kDeadline:
      return &summary->deadline;
    case Ending::kCancelled:
      return &summary->cancelled;
    case Ending::kFailed:
      return &summary->failed;
    case Ending::kUnfinished:
      return &summary->unfinished;
  }
  return &summary->failed;
}

// The first token came when it came, the others as far apart from each other as any.
double TokensWithin(const Outcome& outcome, const Window& window) {
  if (outcome.first < 0) return 0;
  const auto within = [&](double at) { return at >= window.from && at < window.until; };
  const double others = static_cast<double>(outcome.output_tokens) - 1;
  double tokens = within(outcome.first) ? 1 : 0;
  if (outcome.last <= outcome.first) return tokens * (others + 1);
  const double from = std::max(outcome.first, window.from);
  const double until = std::min(outcome.last, window.until);
  if (until > from) tokens += others * (until - from) / (outcome.last - outcome.first);
  return tokens;
}

}  // namespace

double Summary::PerSecond(int64_t count) const {
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

double Summary::Attained() const {
  return sent > 0 ? static_cast<double>(good) / static_cast<double>(sent) : 0;
}

double Quantile(std::span<const double> sorted, double share) {
  if (sorted.empty()) return 0;
  const double rank = std::clamp(share, 0.0, 1.0) * static_cast<double>(sorted.size() - 1);
  const size_t below = static_cast<size_t>(rank);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (rank - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

Percentiles PercentilesOf(std::vector<double> values) {
  Percentiles out;
  if (values.empty()) return out;
  std::sort(values.begin(), values.end());
  double sum = 0;
  for (const double value : values) sum += value;
  out.count = static_cast<int64_t>(values.size());
  out.mean = sum / static_cast<double>(values.size());
  out.p50 = Quantile(values, 0.5);
  out.p90 = Quantile(values, 0.9);
  out.p99 = Quantile(values, 0.99);
  out.max = values.back();
  return out;
}

double PerTokenSeconds(const Outcome& outcome) {
  if (outcome.output_tokens < 2 || outcome.first < 0) return -1;
  return (outcome.last - outcome.first) / static_cast<double>(outcome.output_tokens - 1);
}

bool IsGood(const Outcome& outcome, const Slo& slo) {
  return outcome.ending == Ending::kCompleted && outcome.first >= 0 &&
         outcome.first - outcome.scheduled <= slo.first_token_seconds &&
         PerTokenSeconds(outcome) <= slo.per_token_seconds;
}

Summary Summarize(std::span<const Outcome> outcomes, const Window& window, const Slo& slo) {
  Summary out;
  out.seconds = window.Seconds();
  std::vector<double> first, per_token, inter_token, end_to_end, refusal, send_delay;
  for (const Outcome& outcome : outcomes) {
    out.streamed_tokens += TokensWithin(outcome, window);
    if (outcome.scheduled < window.from || outcome.scheduled >= window.until) continue;
    ++out.sent;
    ++*CounterOf(outcome.ending, &out);
    send_delay.push_back(outcome.sent - outcome.scheduled);
    if (outcome.first >= 0) first.push_back(outcome.first - outcome.scheduled);
    inter_token.insert(inter_token.end(), outcome.gaps.begin(), outcome.gaps.end());
    if (outcome.ending == Ending::kRefused) refusal.push_back(outcome.ended - outcome.sent);
    if (outcome.ending != Ending::kCompleted) continue;
    out.good += IsGood(outcome, slo);
    out.prompt_tokens += outcome.prompt_tokens;
    out.output_tokens += outcome.output_tokens;
    out.cached_tokens += outcome.cached_tokens;
    end_to_end.push_back(outcome.ended - outcome.scheduled);
    if (const double seconds = PerTokenSeconds(outcome); seconds >= 0) per_token.push_back(seconds);
  }
  out.first_token = PercentilesOf(std::move(first));
  out.per_token = PercentilesOf(std::move(per_token));
  out.inter_token = PercentilesOf(std::move(inter_token));
  out.end_to_end = PercentilesOf(std::move(end_to_end));
  out.refusal = PercentilesOf(std::move(refusal));
  out.send_delay = PercentilesOf(std::move(send_delay));
  return out;
}

double JainIndex(std::span<const double> values) {
  double sum = 0, squares = 0;
  for (const double value : values) {
    sum += value;
    squares += value * value;
  }
  return squares == 0 ? 1 : sum * sum / (static_cast<double>(values.size()) * squares);
}

std::span<const SummaryField> SummaryFields() { return kFields; }

}  // namespace vernier::loadtest
