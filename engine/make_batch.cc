#include "engine/make_batch.h"

namespace vernier {
namespace {

struct CacheArrays {
  std::vector<int32_t>* slots;
  std::vector<int32_t>* blocks;
  std::vector<SequenceRows>* sequences;
};

void AppendCache(const PlannedRows& planned, int32_t first_row, const std::vector<int32_t>& table,
                 CacheArrays* out) {
  const int64_t until = planned.first + planned.count;
  const int64_t num_blocks = (until + kBlockTokens - 1) / kBlockTokens;
  out->sequences->push_back({.first_row = first_row,
                             .num_rows = planned.count,
                             .first_block = static_cast<int32_t>(out->blocks->size()),
                             .num_blocks = static_cast<int32_t>(num_blocks)});
  out->blocks->insert(out->blocks->end(), table.begin(), table.begin() + num_blocks);
  for (int64_t position = planned.first; position < until; ++position) {
    const int32_t block = table[static_cast<size_t>(position / kBlockTokens)];
    out->slots->push_back(block * kBlockTokens + static_cast<int32_t>(position % kBlockTokens));
  }
}

SampleRow SampleRowOf(const Sequence& sequence, int logit_index) {
  const SamplingParams& sampling = sequence.request->sampling;
  return {.logit_index = logit_index,
          .temperature = sampling.temperature,
          .top_k = sampling.top_k,
          .top_p = sampling.top_p,
          .min_p = sampling.min_p,
          .frequency_penalty = sampling.frequency_penalty,
          .presence_penalty = sampling.presence_penalty,
          .repetition_penalty = sampling.repetition_penalty,
          .seed = sampling.seed,
          .position = sequence.tokens.size(),
          .top_logprobs = sampling.logprobs,
          .counts = sequence.counts,
          .biases = sampling.logit_bias,
          .banned = sequence.Banned()};
}

void AppendResults(const PlannedRows& planned, int32_t first_row, StepArrays* arrays) {
  const Sequence& sequence = *planned.sequence;
  const Request& request = *sequence.request;
  const int top =
      request.score.has_value() ? request.score->top_logprobs : request.sampling.prompt_logprobs;
  arrays->first_score.push_back(static_cast<int32_t>(arrays->score_rows.size()));
  for (int32_t row = planned.scored_from; row < planned.scored_until; ++row) {
    arrays->score_rows.push_back(
        {.logit_index = static_cast<int>(arrays->logit_rows.size()),
         .target = sequence.tokens[static_cast<size_t>(planned.first + row + 1)],
         .top_logprobs = top});
    arrays->logit_rows.push_back(first_row + row);
  }
  arrays->sample_of.push_back(planned.draws ? static_cast<int32_t>(arrays->sample_rows.size())
                                            : -1);
  if (planned.draws) {
    arrays->sample_rows.push_back(
        SampleRowOf(sequence, static_cast<int>(arrays->logit_rows.size())));
    arrays->logit_rows.push_back(first_row + planned.count - 1);
  }
}

void Clear(StepArrays* arrays) {
  for (auto* ints : {&arrays->ids, &arrays->positions, &arrays->logit_rows, &arrays->slots,
                     &arrays->reference_slots, &arrays->blocks, &arrays->reference_blocks,
                     &arrays->first_score, &arrays->sample_of}) {
    ints->clear();
  }
  arrays->sequences.clear();
  arrays->reference_sequences.clear();
  arrays->sample_rows.clear();
  arrays->score_rows.clear();
}

}  // namespace

void MakeBatch(const StepPlan& plan, StepArrays* arrays) {
  Clear(arrays);
  CacheArrays own{&arrays->slots, &arrays->blocks, &arrays->sequences};
  CacheArrays reference{&arrays->reference_slots, &arrays->reference_blocks,
                        &arrays->reference_sequences};
  for (const PlannedRows& planned : plan.rows) {
    const Sequence& sequence = *planned.sequence;
    const int32_t first_row = static_cast<int32_t>(arrays->ids.size());
    for (int64_t position = planned.first; position < planned.first + planned.count; ++position) {
      arrays->ids.push_back(sequence.tokens[static_cast<size_t>(position)]);
      arrays->positions.push_back(static_cast<int32_t>(position));
    }
    AppendCache(planned, first_row, sequence.blocks, &own);
    if (plan.reference >= 0) AppendCache(planned, first_row, sequence.reference_blocks, &reference);
    AppendResults(planned, first_row, arrays);
  }
  arrays->samples.assign(arrays->sample_rows.size(), SampleResult{});
  arrays->scores.assign(arrays->score_rows.size(), ScoreResult{});
  arrays->batch = {.num_rows = static_cast<int>(arrays->ids.size()),
                   .ids = arrays->ids,
                   .positions = arrays->positions,
                   .slots = arrays->slots,
                   .sequences = arrays->sequences,
                   .blocks = arrays->blocks,
                   .logit_rows = arrays->logit_rows};
  arrays->reference_batch = arrays->batch;
  arrays->reference_batch.slots = arrays->reference_slots;
  arrays->reference_batch.sequences = arrays->reference_sequences;
  arrays->reference_batch.blocks = arrays->reference_blocks;
}

}  // namespace vernier
