// One request as the engine takes it, the events it gives back, and the one signal that travels
// upstream.
//
// The engine knows single sequences only: n samples, and the variants of a Compare, are that many
// Requests joined in server/.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/reservation.h"
#include "kernels/backend.h"

namespace vernier {

// A lower class gets rows only when no higher one wants them.
enum class Priority : uint8_t { kNormal, kLow };  // Generate, Score · Compare
inline constexpr int kNumPriorities = 2;

// Why someone outside the engine wants a request to end. The first one set wins.
enum class EndReason : uint8_t { kNone, kCancelled, kStopMatched, kDeadline, kSlowConsumer };

// The only signal upstream: set by any thread, read by the device thread at each Plan. Thread-safe.
class RequestControl {
 public:
  // False when another reason was there first.
  bool End(EndReason reason) {
    EndReason expected = EndReason::kNone;
    return end_.compare_exchange_strong(expected, reason, std::memory_order_release,
                                        std::memory_order_relaxed);
  }
  EndReason end() const { return end_.load(std::memory_order_acquire); }

 private:
  std::atomic<EndReason> end_{EndReason::kNone};
};

struct SamplingParams {
  int64_t max_tokens = 0;  // REQUIRES: prompt + max_tokens within the context; >= 1
  int64_t min_tokens = 0;  // ends of sequence and stop tokens are banned before
  float temperature = 1;
  int top_k = 0;  // 0: all
  float top_p = 1;
  float min_p = 0;
  float frequency_penalty = 0;
  float presence_penalty = 0;
  float repetition_penalty = 1;
  uint64_t seed = 0;  // resolved: server/ draws one when the client gives none
  int logprobs = -1;  // -1: none; 0: of the drawn token; k: and of the k best
  int prompt_logprobs =
      -1;  // -1: none; 0: of each prompt token after the first; k: and of the k best
  bool ignore_eos = false;
  std::vector<int32_t> stop_token_ids;
  std::vector<LogitBias> logit_bias;
};

// Present: nothing is generated; every prompt position >= 1 is scored as the next token of those
// before it.
struct ScoreParams {
  int reference_variant =
      -1;              // >= 0: a paired sequence, each position compared with that variant's logits
  int overlap_k = 10;  // of the top-k overlap, <= kMaxTopLogprobs
  int top_logprobs = 0;
  int64_t first_target = 1;  // first position that is scored
};

enum class FinishReason : uint8_t {
  kNone,
  kStop,
  kEos,
  kLength,
  kTimeLimit,
  kCancelled,
  kDeadline,
  kSlowConsumer,
  kDrain,
  kError
};
// Lower case, as metrics label it: "stop", "eos", "length", ...
const char* FinishReasonName(FinishReason reason);

struct TokenEvent {
  int64_t index = 0;  // 0-based in the output
  int32_t id = 0;
  bool has_logprob = false;
  float logprob = 0;
  TopLogprobs top;
};

struct Timings {
  absl::Duration queue;        // Submit to first row planned
  absl::Duration first_token;  // Submit to first token (or first score)
  absl::Duration prefill;      // first row planned to first token
  absl::Duration decode;       // first token to last
  absl::Duration total;        // Submit to finish
};

struct FinishEvent {
  FinishReason reason = FinishReason::kNone;
  int32_t stop_token =
      -1;               // the end-of-sequence or stop token found: neither delivered nor counted
  absl::Status status;  // not OK for kError (INTERNAL), kDrain (UNAVAILABLE), kDeadline
  bool not_finite = false;  // kError: the variant's logits were NaN or Inf
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;  // prompt tokens found in the prefix cache
  int preemptions = 0;
  Timings timings;
};

// Receives one request's events on the device thread, in order, and exactly one OnFinish, the last
// call. Must not block.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  virtual void OnToken(const TokenEvent& event) = 0;
  // Scores of prompt positions [first_position, first_position + results.size()): Score, and
  // prompt_logprobs. Ascending, each position once.
  virtual void OnScores(int64_t first_position, std::span<const ScoreResult> results) = 0;
  virtual void OnFinish(const FinishEvent& event) = 0;
};

struct Request {
  uint64_t id = 0;  // made by the server, unique in the process
  int variant = 0;  // index into the model's variants
  Priority priority = Priority::kNormal;
  // Who shares a prefix cache: requests of one tenant and salt.
  std::string tenant, cache_salt;
  std::vector<int32_t> prompt;  // REQUIRES: not empty, each in [0, vocab)
  SamplingParams sampling;
  std::optional<ScoreParams> score;
  // On the engine's clock; infinite where there is none. The deadline ends the request without, the
  // time limit with success.
  absl::Duration deadline = absl::InfiniteDuration();
  absl::Duration time_limit = absl::InfiniteDuration();
  Reservation reservation;
  std::shared_ptr<RequestControl> control;  // REQUIRES: not null
  std::shared_ptr<TokenSink> sink;          // REQUIRES: not null
};

}  // namespace vernier
