// A device that computes a language model of hashes, and what that model says without a device.
//
// The key and value of a token are a hash of (variant, position, id), kept in a cache addressed as
// a backend's is. A row's logits are a hash of all it attends to, read through its block table: a
// block that was lost, shared or written too late changes every token after it. The oracle computes
// the same from the token ids alone.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/make_batch.h"

namespace vernier::simulation {

inline constexpr int32_t kVocab = 97;
inline constexpr int32_t kEndToken = 0;

// The oracle: logits after `tokens` under a variant.
uint64_t LogitsAfter(int variant, std::span<const int32_t> tokens);
// The token drawn from logits; never one of `banned`, which must leave one.
int32_t Draw(uint64_t logits, uint64_t seed, uint64_t position, std::span<const int32_t> banned);
// What logits say of `target`.
float LogprobOf(uint64_t logits, int32_t target);

class HashDevice {
 public:
  explicit HashDevice(int64_t kv_blocks) : cache_(static_cast<size_t>(kv_blocks) * kBlockTokens) {}

  // Runs both passes of a step and fills `arrays`' samples and scores.
  void Run(const StepPlan& plan, StepArrays* arrays);

 private:
  // Writes the batch's keys and values; returns the logits of its logit rows.
  std::vector<uint64_t> Pass(int variant, const Batch& batch);

  std::vector<uint64_t> cache_;  // [slot]
};

}  // namespace vernier::simulation
