#include "engine/step_runner.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/model/forward.h"
#include "kernels/base/log.h"

namespace vernier {
namespace {

SequenceEnd CorruptedEnd(uint64_t request_id, int variant, RowStatus status) {
  const std::string incident = absl::StrCat(absl::Hex(request_id, absl::kZeroPad16));
  Log(LogLevel::kError,
      absl::StrCat("incident ", incident, ": ", status == RowStatus::kNan ? "NaN" : "Inf",
                   " in the logits of variant ", variant));
  return {FinishReason::kError, -1,
          absl::InternalError(absl::StrCat("internal error, incident ", incident)), true};
}

void Corrupt(Sequence* sequence, int variant, RowStatus status, EngineObserver* observer) {
  sequence->end = CorruptedEnd(sequence->request->id, variant, status);
  if (observer != nullptr) observer->OnCorrupted(variant, status);
}

void DeliverScores(const PlannedRows& planned, std::span<const ScoreResult> scores,
                   absl::Duration now, EngineObserver* observer) {
  Sequence* sequence = planned.sequence;
  const Request& request = *sequence->request;
  for (const ScoreResult& score : scores) {
    if (score.status != RowStatus::kOk) {
      return Corrupt(sequence, request.variant, score.status, observer);
    }
    if (score.reference_status != RowStatus::kOk) {
      return Corrupt(sequence, request.score->reference_variant, score.reference_status, observer);
    }
  }
  if (request.score.has_value()) sequence->first_result = std::min(sequence->first_result, now);
  request.sink->OnScores(planned.first + planned.scored_from + 1, scores);
}

void DeliverToken(Sequence* sequence, const SampleResult& sample, absl::Duration now,
                  EngineObserver* observer) {
  if (sample.status != RowStatus::kOk) {
    return Corrupt(sequence, sequence->request->variant, sample.status, observer);
  }
  const int64_t index = sequence->Generated();
  sequence->end = sequence->Append(sample.id);
  sequence->first_result = std::min(sequence->first_result, now);
  if (sequence->Generated() == index) return;  // it ended the sequence: not part of the output
  sequence->last_token = now;
  sequence->request->sink->OnToken({.index = index,
                                    .id = sample.id,
                                    .has_logprob = sequence->request->sampling.logprobs >= 0,
                                    .logprob = sample.logprob,
                                    .top = sample.top});
}

absl::Duration Between(absl::Duration from, absl::Duration until) {
  return from == absl::InfiniteDuration() || until == absl::InfiniteDuration()
             ? absl::ZeroDuration()
             : until - from;
}

}  // namespace

void LaunchStep(const Model& model, Backend* backend, Step* step) {
  const StepPlan& plan = step->plan;
  StepArrays& arrays = step->arrays;
  MakeBatch(plan, &arrays);
  if (plan.reference >= 0) {
    backend->Execute({.variant = plan.reference, .num_rows = arrays.batch.num_rows},
                     arrays.reference_batch,
                     [&] { ForwardPass(model, plan.reference, /*logits_buffer=*/1, backend); });
  }
  backend->Execute({.variant = plan.variant, .num_rows = arrays.batch.num_rows}, arrays.batch, [&] {
    ForwardPass(model, plan.variant, /*logits_buffer=*/0, backend);
    if (!arrays.sample_rows.empty()) backend->Sample(arrays.sample_rows, arrays.samples);
    for (size_t i = 0; i < plan.rows.size(); ++i) {
      const size_t first = static_cast<size_t>(arrays.first_score[i]);
      const size_t count =
          static_cast<size_t>(plan.rows[i].scored_until - plan.rows[i].scored_from);
      if (count == 0) continue;
      const auto& score = plan.rows[i].sequence->request->score;
      backend->Score({.buffer = 0,
                      .reference_buffer = plan.reference >= 0 ? 1 : -1,
                      .overlap_k = score.has_value() ? score->overlap_k : ScoreArgs{}.overlap_k,
                      .rows = std::span<const ScoreRow>(arrays.score_rows).subspan(first, count),
                      .results = std::span<ScoreResult>(arrays.scores).subspan(first, count)});
    }
  });
}

void DeliverStep(const Step& step, absl::Duration now, EngineObserver* observer) {
  for (size_t i = 0; i < step.plan.rows.size(); ++i) {
    const PlannedRows& planned = step.plan.rows[i];
    Sequence* sequence = planned.sequence;
    if (sequence->end.has_value()) continue;
    const size_t count = static_cast<size_t>(planned.scored_until - planned.scored_from);
    if (count > 0) {
      const auto scores = std::span<const ScoreResult>(step.arrays.scores);
      DeliverScores(planned, scores.subspan(static_cast<size_t>(step.arrays.first_score[i]), count),
                    now, observer);
    }
    if (planned.draws && !sequence->end.has_value()) {
      DeliverToken(sequence, step.arrays.samples[static_cast<size_t>(step.arrays.sample_of[i])],
                   now, observer);
    }
  }
}

void FinishSequence(Sequence* sequence, absl::Duration now, EngineObserver* observer) {
  Request& request = *sequence->request;
  const bool generated_text = sequence->last_token != absl::InfiniteDuration();
  const FinishEvent event{
      .reason = sequence->end->reason,
      .stop_token = sequence->end->stop_token,
      .status = sequence->end->status,
      .not_finite = sequence->end->not_finite,
      .prompt_tokens = sequence->prompt_tokens,
      .completion_tokens = sequence->Generated(),
      .cached_tokens = sequence->cached_tokens,
      .preemptions = sequence->preemptions,
      .timings = {.queue = Between(sequence->submitted, std::min(sequence->first_planned, now)),
                  .first_token = Between(sequence->submitted, sequence->first_result),
                  .prefill = Between(sequence->first_planned, sequence->first_result),
                  .decode = generated_text ? Between(sequence->first_result, sequence->last_token)
                                           : absl::ZeroDuration(),
                  .total = now - sequence->submitted}};
  request.reservation.Release();
  if (observer != nullptr) {
    if (sequence->end_seen != absl::InfiniteDuration())
      observer->OnReleased(request.variant, now - sequence->end_seen);
    observer->OnFinished(request, event);
  }
  request.sink->OnFinish(event);
}

}  // namespace vernier
