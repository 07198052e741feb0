// What is kept of a request that an experiment saw: 192 bytes, no text, no raw id.
//
// A request leaves a kBound record where its arm is decided, long before its outcome is known, and
// a kDone one at its end; a kScored one follows where its answer was scored under another variant.
// They are joined by request_id. What is not there is NaN, or 0 where a count says so.
//
// Every record has: time, request_id, the hashes, the digests, experiment, version, layer, arm,
// assigned, served, reason, bucket, prompt_tokens. Beside them
//   kBound   running_by_variant;
//   kDone    output_tokens, the times, kv_blocks, mean_logprob, mean_entropy, loop_rate, finish,
//            grpc_status, script_mismatch, not_finite;
//   kScored  output_tokens, mean_logprob, score_kl, score_top1, score_tokens.
//
// A shadow is a copy of a request under another arm's variant: reason kShadow, request_id and the
// hashes of the request that was copied, arm and assigned and served of the shadow. It leaves
//   kBound   when it is decided that there shall be one;
//   kDone    at its end, as above, of its own answer; grpc_status RESOURCE_EXHAUSTED: dropped under
//            load. reference_arm, reference_status;
//   kScored  its answer against that of the request: score_kl (KL(reference || shadow), nats a
//            token, on the reference's answer), score_top1, score_tokens, output_tokens and
//            mean_logprob of its own answer, and every reference_ field, same_tokens, equal.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace vernier {

enum class ExposureKind : uint8_t { kBound = 1, kDone = 2, kScored = 3 };

// Why a request was served by what served it.
enum class ServedReason : uint8_t {
  kAssigned = 1,
  kForced = 2,  // the request named a variant
  kPinned = 3,  // its session has an arm
  kFallbackMemory = 4,
  kFallbackError = 5,
  kShadow = 6  // a copy, whose answer nobody got
};

inline constexpr uint8_t kNoArm = 255;

// Little-endian, as it lies in the file; offsets are the format.
struct ExposureRecord {
  static constexpr uint16_t kBytes = 192;
  static constexpr uint8_t kLayout = 1;
  static constexpr float kAbsent = std::numeric_limits<float>::quiet_NaN();

  uint16_t size = kBytes;
  uint8_t layout = kLayout;
  ExposureKind kind = ExposureKind::kBound;
  uint32_t checksum = 0;  // of all that follows: the lower half of XXH3's 64 bits; set by the log
  uint64_t unix_micros = 0;

  std::array<uint8_t, 16> request_id{};  // a UUIDv7's bytes
  uint64_t session_hash = 0;             // keyed; 0: none
  uint64_t unit_hash = 0;                // keyed; 0: none
  uint64_t model_digest = 0;
  uint64_t quant_digest = 0;
  uint64_t server_build = 0;

  uint32_t experiment = 0;  // by its number in the log's catalogue
  uint32_t experiment_version = 0;
  uint16_t layer = 0;
  uint16_t padding = 0;
  uint8_t arm = kNoArm;
  uint8_t assigned = kNoArm;  // variant, by its number
  uint8_t served = kNoArm;
  ServedReason reason = ServedReason::kAssigned;
  double bucket = 0;

  uint32_t prompt_tokens = 0;
  uint32_t output_tokens = 0;
  uint32_t queue_micros = 0;
  uint32_t first_token_micros = 0;
  uint32_t token_p50_micros = 0;
  uint32_t token_p99_micros = 0;
  uint32_t total_micros = 0;
  uint32_t kv_blocks = 0;

  std::array<uint16_t, 8> running_by_variant{};  // when it was admitted
  float mean_logprob = kAbsent;
  float mean_entropy = kAbsent;
  float loop_rate = kAbsent;

  uint8_t finish = 0;  // FinishReason of the protocol; 0 until it is known
  uint8_t grpc_status = 0;
  uint8_t script_mismatch = 0;
  uint8_t not_finite = 0;
  float score_kl = kAbsent;
  float score_top1 = kAbsent;
  uint32_t score_tokens = 0;  // 0: not scored

  // Of shadows: the answer that somebody got.
  uint32_t reference_tokens = 0;
  uint32_t same_tokens = 0;  // that both answers begin with
  float reference_logprob = kAbsent;
  uint8_t equal = 0;  // 1: the answers are the same to their ends
  uint8_t reference_arm = kNoArm;
  uint8_t reference_status = 0;  // gRPC
  std::array<uint8_t, 5> reserved{};
};

static_assert(sizeof(ExposureRecord) == ExposureRecord::kBytes);
static_assert(std::is_trivially_copyable_v<ExposureRecord>);
static_assert(offsetof(ExposureRecord, request_id) == 16);
static_assert(offsetof(ExposureRecord, model_digest) == 48);
static_assert(offsetof(ExposureRecord, experiment) == 72);
static_assert(offsetof(ExposureRecord, bucket) == 88);
static_assert(offsetof(ExposureRecord, prompt_tokens) == 96);
static_assert(offsetof(ExposureRecord, running_by_variant) == 128);
static_assert(offsetof(ExposureRecord, finish) == 156);
static_assert(offsetof(ExposureRecord, reference_tokens) == 172);

}  // namespace vernier
