// How many of 1,000 requests get the same bits however they are run: decoded alone behind a whole
// prompt, and beside others behind a prompt in pieces.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/model.h"
#include "tests/testing/single_sequence.h"

namespace vernier::bench {

inline constexpr int kEqualitySequences = 20;
inline constexpr int kEqualityPrompt = 130;  // tokens at most
inline constexpr int kPieces[] = {7, 16, 17, 33, 40, 64, 65, 100, 129, 200};
inline constexpr int kTogether[] = {1, 2, 5, 10, 20};
inline constexpr int kEqualityRuns =
    kEqualitySequences * static_cast<int>(std::size(kPieces) * std::size(kTogether));
static_assert(kEqualityRuns == 1000);

// The logits of the token behind the prompts of sequences [first, first + count), [count, vocab]:
// prompts in pieces of `piece` tokens, all sequences in each step.
inline absl::StatusOr<std::vector<float>> DecodedBehindPieces(
    testing::SequenceDriver* driver, std::span<const std::vector<int32_t>> prompts, int first,
    int count, int piece) {
  using testing::SequenceDriver;
  driver->Reset();
  static constexpr int32_t kNext[] = {1};
  for (int begin = 0; begin < kEqualityPrompt; begin += piece) {
    std::vector<SequenceDriver::Input> inputs;
    for (int i = first; i < first + count; ++i) {
      const auto length = static_cast<int>(prompts[i].size());
      if (begin >= length) continue;
      const int tokens = std::min(piece, length - begin);
      inputs.push_back({i, std::span(prompts[i]).subspan(begin, tokens)});
    }
    if (inputs.empty()) break;
    absl::Status status = driver->Step(0, inputs, SequenceDriver::Logits::kLast, [] {});
    if (!status.ok()) return status;
  }
  std::vector<SequenceDriver::Input> inputs;
  for (int i = first; i < first + count; ++i) inputs.push_back({i, kNext});
  absl::Status status = driver->Step(0, inputs, SequenceDriver::Logits::kLast, [] {});
  if (!status.ok()) return status;
  return driver->LastLogits();
}

// Of kEqualityRuns. REQUIRES: a driver of kEqualitySequences sequences, contexts of over
// kEqualityPrompt tokens, and rows for all of them.
inline absl::StatusOr<int> CountBitEqual(testing::SequenceDriver* driver, int64_t vocab) {
  std::vector<std::vector<int32_t>> prompts(kEqualitySequences);
  for (int i = 0; i < kEqualitySequences; ++i) {
    prompts[i].resize(3 + i * 47 % (kEqualityPrompt - 2));
    for (size_t t = 0; t < prompts[i].size(); ++t) {
      prompts[i][t] = static_cast<int32_t>((t * 7919 + static_cast<size_t>(i) * 104729) % vocab);
    }
  }
  std::vector<std::vector<float>> alone;
  for (int i = 0; i < kEqualitySequences; ++i) {
    auto logits = DecodedBehindPieces(driver, prompts, i, 1, kEqualityPrompt);
    if (!logits.ok()) return logits.status();
    alone.push_back(*std::move(logits));
  }
  int equal = 0;
  for (const int piece : kPieces) {
    for (const int together : kTogether) {
      for (int first = 0; first < kEqualitySequences; first += together) {
        const auto logits = DecodedBehindPieces(driver, prompts, first, together, piece);
        if (!logits.ok()) return logits.status();
        for (int i = 0; i < together; ++i) {
          equal += std::memcmp(logits->data() + i * vocab, alone[first + i].data(),
                               static_cast<size_t>(vocab) * sizeof(float)) == 0;
        }
      }
    }
  }
  return equal;
}

}  // namespace vernier::bench
