#include "cli/score_windows.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace vernier::cli {

std::vector<ScoreWindow> PlanWindows(uint32_t tokens, uint32_t window, uint32_t stride) {
  std::vector<ScoreWindow> windows;
  uint32_t scored_until = 1;  // nothing comes before the first token
  for (uint64_t first = 0; first < tokens; first += stride) {
    const auto end = static_cast<uint32_t>(std::min<uint64_t>(tokens, first + window));
    const auto begin = static_cast<uint32_t>(first);
    windows.push_back({begin, end - begin, scored_until});
    scored_until = end;
    if (end == tokens) break;
  }
  return windows;
}

void AddWindow(const ScoreWindow& window, const v1::ScoreResponse& reply, v1::ScoreResponse* sum) {
  *sum->mutable_served_by() = reply.served_by();
  const int count = std::min(reply.positions_size(), reply.tokens_size());
  for (int i = 0; i < count; ++i) {
    const uint32_t position = window.first + reply.positions(i);
    if (position < window.first_scored) continue;
    sum->add_positions(position);
    *sum->add_tokens() = reply.tokens(i);
    sum->set_sum_logprob(sum->sum_logprob() + reply.tokens(i).chosen().logprob());
    sum->set_scored_tokens(sum->scored_tokens() + 1);
  }
  const auto scored = static_cast<double>(sum->scored_tokens());
  sum->set_perplexity(scored > 0 ? std::exp(-sum->sum_logprob() / scored)
                                 : std::numeric_limits<double>::quiet_NaN());
  sum->set_truncated(sum->truncated() || reply.truncated());
  v1::Usage* usage = sum->mutable_usage();  // of the work, overlaps counted again
  usage->set_prompt_tokens(usage->prompt_tokens() + reply.usage().prompt_tokens());
  v1::Timings* timings = sum->mutable_timings();
  timings->set_queue_seconds(timings->queue_seconds() + reply.timings().queue_seconds());
  timings->set_prefill_seconds(timings->prefill_seconds() + reply.timings().prefill_seconds());
  timings->set_total_seconds(timings->total_seconds() + reply.timings().total_seconds());
}

}  // namespace vernier::cli
