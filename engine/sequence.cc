#include "engine/sequence.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace vernier {
namespace {

bool HasPenalty(const SamplingParams& sampling) {
  return sampling.frequency_penalty != 0 || sampling.presence_penalty != 0 ||
         sampling.repetition_penalty != 1;
}

bool Contains(const std::vector<int32_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

Sequence::Sequence(std::unique_ptr<Request> taken, uint64_t arrival_order, absl::Duration now,
                   std::vector<int32_t> model_ends)
    : request(std::move(taken)),
      arrival(arrival_order),
      tokens(request->prompt),
      prompt_tokens(static_cast<int64_t>(tokens.size())),
      root(PrefixRoot(request->variant, request->tenant, request->cache_salt)),
      submitted(now),
      last_planned(now),
      ends_(std::move(model_ends)) {
  if (request->score.has_value()) {
    next_score = std::max<int64_t>(1, request->score->first_target);
    if (Paired()) {
      reference_root =
          PrefixRoot(request->score->reference_variant, request->tenant, request->cache_salt);
    }
  } else {
    if (!request->sampling.ignore_eos) banned_ = ends_;
    const auto& stops = request->sampling.stop_token_ids;
    banned_.insert(banned_.end(), stops.begin(), stops.end());
    if (HasPenalty(request->sampling)) {
      for (const int32_t id : tokens) Count(id, /*in_prompt=*/true);
    }
  }
}

int64_t Sequence::FirstScoredRow() const {
  const bool scores = request->score.has_value() || request->sampling.prompt_logprobs >= 0;
  if (!scores || next_score >= prompt_tokens) return std::numeric_limits<int64_t>::max();
  return next_score - 1;
}

std::optional<SequenceEnd> Sequence::Append(int32_t id) {
  const SamplingParams& sampling = request->sampling;
  if (!sampling.ignore_eos && Contains(ends_, id)) return SequenceEnd{FinishReason::kEos, id, {}};
  if (Contains(sampling.stop_token_ids, id)) return SequenceEnd{FinishReason::kStop, id, {}};
  tokens.push_back(id);
  if (HasPenalty(sampling)) Count(id, /*in_prompt=*/false);
  if (Generated() >= sampling.max_tokens) return SequenceEnd{FinishReason::kLength, -1, {}};
  return std::nullopt;
}

std::span<const int32_t> Sequence::Banned() const {
  if (Generated() >= request->sampling.min_tokens) return {};
  return banned_;
}

void Sequence::Count(int32_t id, bool in_prompt) {
  const auto [entry, added] = count_of_.try_emplace(id, counts.size());
  if (added) counts.push_back({.id = id});
  TokenCount& count = counts[entry->second];
  (in_prompt ? count.prompt : count.generated) += 1;
}

std::optional<SequenceEnd> EndFor(const Sequence& sequence, absl::Duration now) {
  switch (sequence.request->control->end()) {
    case EndReason::kCancelled:
      return SequenceEnd{FinishReason::kCancelled, -1,
                         absl::CancelledError("cancelled by the client")};
    case EndReason::kStopMatched:
      return SequenceEnd{FinishReason::kStop, -1, {}};
    case EndReason::kDeadline:
      return SequenceEnd{FinishReason::kDeadline, -1,
                         absl::DeadlineExceededError("the deadline passed")};
    case EndReason::kSlowConsumer:
      return SequenceEnd{FinishReason::kSlowConsumer, -1,
                         absl::ResourceExhaustedError("the client reads too slowly")};
    case EndReason::kNone:
      break;
  }
  if (now >= sequence.request->deadline) {
    return SequenceEnd{FinishReason::kDeadline, -1,
                       absl::DeadlineExceededError("the deadline passed")};
  }
  if (now >= sequence.request->time_limit) return SequenceEnd{FinishReason::kTimeLimit, -1, {}};
  return std::nullopt;
}

}  // namespace vernier
