#include "tests/simulation/hash_device.h"

#include <algorithm>

namespace vernier::simulation {
namespace {

// The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

uint64_t Mix(uint64_t a, uint64_t b) { return Mix(Mix(a + 0x9e3779b97f4a7c15ull) ^ b); }

uint64_t KeyValue(int variant, int64_t position, int32_t id) {
  return Mix(Mix(static_cast<uint64_t>(variant), static_cast<uint64_t>(position)),
             static_cast<uint64_t>(id));
}

}  // namespace

uint64_t LogitsAfter(int variant, std::span<const int32_t> tokens) {
  uint64_t sum = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    sum += KeyValue(variant, static_cast<int64_t>(i), tokens[i]);
  }
  return Mix(sum);
}

int32_t Draw(uint64_t logits, uint64_t seed, uint64_t position, std::span<const int32_t> banned) {
  const uint64_t hash = Mix(logits, Mix(seed, position));
  int32_t id = static_cast<int32_t>(hash % static_cast<uint64_t>(kVocab));
  while (std::find(banned.begin(), banned.end(), id) != banned.end()) id = (id + 1) % kVocab;
  return id;
}

float LogprobOf(uint64_t logits, int32_t target) {
  return -static_cast<float>(Mix(logits, static_cast<uint64_t>(target)) >> 40);
}

std::vector<uint64_t> HashDevice::Pass(int variant, const Batch& batch) {
  for (size_t row = 0; row < batch.ids.size(); ++row) {
    cache_.at(static_cast<size_t>(batch.slots[row])) =
        KeyValue(variant, batch.positions[row], batch.ids[row]);
  }
  std::vector<uint64_t> logits;
  auto sequence = batch.sequences.begin();
  for (const int32_t row : batch.logit_rows) {
    while (row >= sequence->first_row + sequence->num_rows) ++sequence;
    const auto table = batch.blocks.subspan(static_cast<size_t>(sequence->first_block),
                                            static_cast<size_t>(sequence->num_blocks));
    uint64_t sum = 0;
    for (int32_t p = 0; p <= batch.positions[static_cast<size_t>(row)]; ++p) {
      const int32_t block = table[static_cast<size_t>(p / kBlockTokens)];
      sum += cache_.at(static_cast<size_t>(block * kBlockTokens + p % kBlockTokens));
    }
    logits.push_back(Mix(sum));
  }
  return logits;
}

void HashDevice::Run(const StepPlan& plan, StepArrays* arrays) {
  std::vector<uint64_t> reference;
  if (plan.reference >= 0) reference = Pass(plan.reference, arrays->reference_batch);
  const std::vector<uint64_t> logits = Pass(plan.variant, arrays->batch);
  for (size_t i = 0; i < arrays->sample_rows.size(); ++i) {
    const SampleRow& row = arrays->sample_rows[i];
    arrays->samples[i].id =
        Draw(logits.at(static_cast<size_t>(row.logit_index)), row.seed, row.position, row.banned);
  }
  for (size_t i = 0; i < arrays->score_rows.size(); ++i) {
    const ScoreRow& row = arrays->score_rows[i];
    const size_t index = static_cast<size_t>(row.logit_index);
    arrays->scores[i].logprob = LogprobOf(logits.at(index), row.target);
    if (plan.reference >= 0) {
      arrays->scores[i].reference_logprob = LogprobOf(reference.at(index), row.target);
    }
  }
}

}  // namespace vernier::simulation
