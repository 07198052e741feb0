// Compare's answer: what each variant's part says, once every run has ended.
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/compare.h"
#include "server/divergence.h"
#include "server/replies.h"
#include "server/wire_status.h"

namespace vernier {

std::string CompareCall::NameOf(const Part& part) const {
  return absl::StrCat(served_->model->variants[part.variant].name,
                      part.control ? " (control)" : "");
}

// By output token. Scores over the reference's own output know the logits themselves; the free run
// knows the log-probabilities, whose differences are the same.
std::vector<float> CompareCall::ReferenceMargins() const {
  if (!reference_->sample) return {};
  if (!spec_.forced_given && reference_->scored) {
    std::vector<float> margins;
    for (const ScoreResult& result : reference_->scores) margins.push_back(result.margin);
    return margins;
  }
  return reference_->sample->margins();
}

v1::VariantResult CompareCall::ResultOf(const Part& part, std::span<const float> margins) const {
  v1::VariantResult out;
  *out.mutable_served_by() = ServedByOf(*served_->model, part.variant, spec_.base.sampling.seed);
  const WireStatus wire = ToWire(part.status);
  out.set_status_code(static_cast<uint32_t>(wire.code));
  out.set_status_message(wire.message);
  out.set_is_reference(part.reference);
  out.set_is_control(part.control);
  *out.mutable_memory() = MemoryOf(*served_->model, part.variant);
  if (part.sample && part.sample->finished() && spec_.mode != CompareMode::kForced) {
    *out.mutable_completion() = part.sample->CompletionMessage();
    if (!part.reference && part.sample->status().ok() && reference_->sample->status().ok()) {
      *out.mutable_divergence() =
          Diverge(NameOf(part), part.sample->ids(), reference_->sample->ids(), margins);
    }
  }
  if (part.scored) *out.mutable_forced() = SummarizeForced(part.scores, !part.reference);
  return out;
}

void CompareCall::CountQuality(const Part& part) const {
  if (part.reference || part.control) return;
  if (part.sample && reference_->sample && part.parted) {
    served_->metrics->Divergence(part.variant, spec_.reference,
                                 static_cast<int64_t>(part.compared));
  }
  if (part.scored && !part.scores.empty()) {
    const v1::ForcedScores forced = SummarizeForced(part.scores, true);
    served_->metrics->Agreement(part.variant, spec_.reference, forced.top1_agreement(),
                                std::abs(forced.log_perplexity_difference()));
  }
}

void CompareCall::Finish() {
  bool any_good = false;
  for (const Part& part : parts_) any_good = any_good || part.status.ok();
  if (!any_good || client_gone()) {
    const absl::Status status =
        any_good ? absl::CancelledError("the client cancelled") : parts_[0].status;
    return FinishCall(status, nullptr, started_ ? DeliveredTokens() : -1);
  }
  v1::CompareResponse reply;
  const std::vector<float> margins = ReferenceMargins();
  for (const Part& part : parts_) {
    *reply.add_results() = ResultOf(part, margins);
    CountQuality(part);
  }
  reply.set_reference(served_->model->variants[spec_.reference].name);
  reply.set_reference_is_quantized(served_->model->source_is_quantized);
  for (const int32_t id : prompt_) reply.add_prompt_token_ids(id);
  for (const int32_t id : forced_) reply.add_forced_token_ids(id);
  reply.set_requests_running(requests_running_.value_or(0));
  reply.set_request_id(spec_.base.request_id);
  if (shape_ == Shape::kUnary) return FinishCall(absl::OkStatus(), &reply, -1);
  summary_ = std::move(reply);
}

}  // namespace vernier
