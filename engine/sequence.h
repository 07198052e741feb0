// One request on its way through the engine: its tokens, its place in the
// cache, and what a drawn token means for it.
//
// Owned by the scheduler, touched by the device thread alone.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/prefix_index.h"
#include "engine/request.h"
#include "engine/tenant_shares.h"

namespace vernier {

// How a sequence ends: what its FinishEvent will say.
struct SequenceEnd {
  FinishReason reason = FinishReason::kNone;
  int32_t stop_token = -1;
  absl::Status status;
  bool not_finite = false;
};

struct Sequence {
  Sequence(std::unique_ptr<Request> taken, uint64_t arrival, absl::Duration now,
           std::vector<int32_t> model_ends);

  // Tokens that may be computed: all but the last of a scored text, whose
  // logits nobody asks for.
  int64_t Rows() const {
    return static_cast<int64_t>(tokens.size()) - (request->score.has_value() ? 1 : 0);
  }
  bool Paired() const {
    return request->score.has_value() && request->score->reference_variant >= 0;
  }
  int64_t Generated() const { return static_cast<int64_t>(tokens.size()) - prompt_tokens; }
  // The next row is the last known token's, and its logits give a new one.
  bool Decoding() const { return !request->score.has_value() && planned == Rows() - 1; }
  bool Running() const { return !blocks.empty(); }
  // First row whose logits still owe a score to the sink; past every row when
  // none do.
  int64_t FirstScoredRow() const;

  // Takes a drawn token: the end it brings, or nothing. A token that ends the
  // sequence is not appended.
  std::optional<SequenceEnd> Append(int32_t id);
  // Ids that must not be drawn next.
  std::span<const int32_t> Banned() const;

  std::unique_ptr<Request> request;
  uint64_t arrival;             // order of Submit; smaller is older
  std::vector<int32_t> tokens;  // the prompt, then what was drawn
  int64_t prompt_tokens;

  int64_t computed = 0;                   // positions whose keys and values a committed step wrote
  int64_t planned = 0;                    // and those of steps in flight; Rows() while a draw is
  int64_t next_score = 1;                 // next prompt position to be scored, of those planned
  int in_flight = 0;                      // steps planned and not committed
  std::vector<int32_t> blocks;            // of the request's variant
  std::vector<int32_t> reference_blocks;  // of a paired score's reference
  PrefixId root, reference_root;          // of what may be found for them
  int64_t found = 0;          // positions found in the prefix cache when it last got its blocks
  int64_t cached_tokens = 0;  // and when it first did
  int64_t indexed = 0;        // blocks that can be found, or whose like can
  PrefixId parent, reference_parent;  // of the block behind those
  int preemptions = 0;
  TenantShares::Tenant* tenant = nullptr;  // the scheduler's
  int64_t charged = 0;                     // positions that it was charged for, or found
  int64_t outstanding = 0;                 // of the tenant's, what is this one's
  std::optional<SequenceEnd> end;          // decided; takes effect once no step is in flight

  // Tokens that a penalty touches, with how often they occurred; empty when no
  // penalty is set.
  std::vector<TokenCount> counts;

  absl::Duration submitted;
  absl::Duration first_planned = absl::InfiniteDuration();
  absl::Duration last_planned;  // or submitted
  absl::Duration first_result = absl::InfiniteDuration();
  absl::Duration last_token = absl::InfiniteDuration();
  absl::Duration end_seen = absl::InfiniteDuration();

 private:
  void Count(int32_t id, bool in_prompt);

  std::vector<int32_t> ends_;                     // of the model
  std::vector<int32_t> banned_;                   // before min_tokens
  std::unordered_map<int32_t, size_t> count_of_;  // index into counts
};

// The end that the sequence's control, deadline or time limit mean at `now`; or nothing.
std::optional<SequenceEnd> EndFor(const Sequence& sequence, absl::Duration now);

}  // namespace vernier
