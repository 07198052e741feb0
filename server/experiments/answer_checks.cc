#include "server/experiments/answer_checks.h"

#include <array>

#include "absl/container/flat_hash_set.h"

namespace vernier {
namespace {

// google.rpc.Code, as on the wire.
constexpr uint8_t kOk = 0, kUnknown = 2, kInternal = 13, kDataLoss = 15;
// vernier.v1.FinishReason.
constexpr uint8_t kStop = 1, kEos = 2, kLength = 3;

bool FellBack(const ExposureRecord& record) {
  return record.reason == ServedReason::kFallbackMemory ||
         record.reason == ServedReason::kFallbackError;
}

}  // namespace

double LoopRate(std::span<const int32_t> tokens) {
  constexpr size_t kGram = 4;
  if (tokens.size() < kGram) return 0;
  const size_t grams = tokens.size() - kGram + 1;
  absl::flat_hash_set<std::array<int32_t, kGram>> seen;
  seen.reserve(grams);
  for (size_t i = 0; i < grams; ++i) {
    seen.insert({tokens[i], tokens[i + 1], tokens[i + 2], tokens[i + 3]});
  }
  return static_cast<double>(grams - seen.size()) / static_cast<double>(grams);
}

bool IsOurFailure(uint8_t grpc_status) {
  return grpc_status == kUnknown || grpc_status == kInternal || grpc_status == kDataLoss;
}

RequestEnd EndOf(const ExposureRecord& record) {
  if (FellBack(record) || IsOurFailure(record.grpc_status)) return RequestEnd::kFailed;
  if (record.grpc_status != kOk) return RequestEnd::kSaysNothing;
  const bool good = record.finish == kStop || record.finish == kEos || record.finish == kLength;
  return good ? RequestEnd::kAnswered : RequestEnd::kSaysNothing;
}

bool IsBroken(const ExposureRecord& record) {
  if (EndOf(record) != RequestEnd::kAnswered) return false;
  return record.output_tokens == 0 ||
         (record.output_tokens >= kLeastLoopTokens && record.loop_rate >= kLoopRateLimit);
}

}  // namespace vernier
