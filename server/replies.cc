#include "server/replies.h"

#include <algorithm>

#include "absl/time/time.h"
#include "kernels/quant_format.h"

namespace vernier {

v1::ServedBy ServedByOf(const Model& model, int variant, uint64_t seed) {
  v1::ServedBy out;
  out.set_model(model.name);
  out.set_variant(model.variants[variant].name);
  out.set_precision(FormatOf(model.variants[variant].precision).name);
  out.set_weights_sha256(model.weights_sha256);
  out.set_source(model.source);
  out.set_seed(seed);
  return out;
}

v1::VariantMemory MemoryOf(const Model& model, int variant) {
  const Variant& v = model.variants[variant];
  v1::VariantMemory out;
  out.set_own_weight_bytes(v.own_bytes);
  out.set_shared_weight_bytes(v.shared_bytes);
  out.set_kv_bytes_per_token(KvBlockBytes(model.config.num_layers, model.config.attention, v.kv) /
                             kBlockTokens);
  return out;
}

v1::FinishReason FinishReasonOf(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return v1::FINISH_REASON_UNSPECIFIED;
    case FinishReason::kStop:
      return v1::STOP;
    case FinishReason::kEos:
      return v1::EOS;
    case FinishReason::kLength:
      return v1::LENGTH;
    case FinishReason::kTimeLimit:
      return v1::TIME_LIMIT;
    case FinishReason::kCancelled:
      return v1::CANCELLED;
    case FinishReason::kDeadline:
      return v1::DEADLINE;
    case FinishReason::kSlowConsumer:
      return v1::SLOW_CONSUMER;
    case FinishReason::kDrain:
      return v1::DRAIN;
    case FinishReason::kError:
      return v1::ERROR;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

v1::Timings TimingsOf(const Timings& timings, int64_t completion_tokens) {
  v1::Timings out;
  out.set_queue_seconds(absl::ToDoubleSeconds(timings.queue));
  out.set_time_to_first_token_seconds(absl::ToDoubleSeconds(timings.first_token));
  out.set_prefill_seconds(absl::ToDoubleSeconds(timings.prefill));
  out.set_decode_seconds(absl::ToDoubleSeconds(timings.decode));
  out.set_total_seconds(absl::ToDoubleSeconds(timings.total));
  if (completion_tokens > 1) {
    out.set_mean_inter_token_seconds(absl::ToDoubleSeconds(timings.decode) /
                                     static_cast<double>(completion_tokens - 1));
  }
  if (timings.total > absl::ZeroDuration()) {
    out.set_tokens_per_second(static_cast<double>(completion_tokens) /
                              absl::ToDoubleSeconds(timings.total));
  }
  return out;
}

v1::Usage UsageOf(const FinishEvent& event, int64_t completion_tokens) {
  v1::Usage out;
  out.set_prompt_tokens(event.prompt_tokens);
  out.set_completion_tokens(completion_tokens);
  out.set_cached_tokens(event.cached_tokens);
  out.set_preemptions(event.preemptions);
  return out;
}

namespace {

void FillLogprob(const Tokenizer* tokenizer, int32_t id, float logprob, v1::TokenLogprob* out) {
  out->set_token_id(id);
  out->set_logprob(logprob);
  if (tokenizer != nullptr && id >= 0 && id < tokenizer->vocab_size()) {
    out->set_token(tokenizer->TokenBytes(id, /*special_as_text=*/true));
  }
}

}  // namespace

void FillTokenDetail(const Tokenizer* tokenizer, int32_t id, float logprob, const TopLogprobs* top,
                     int shown, v1::TokenDetail* detail) {
  FillLogprob(tokenizer, id, logprob, detail->mutable_chosen());
  if (top == nullptr) return;
  for (int i = 0; i < std::min(top->count, shown); ++i) {
    FillLogprob(tokenizer, top->entries[i].id, top->entries[i].logprob, detail->add_top());
  }
}

v1::Variant DescribeVariant(const Model& model, int variant, v1::VariantState state) {
  const Variant& from = model.variants[static_cast<size_t>(variant)];
  v1::Variant out;
  out.set_name(from.name);
  out.set_precision(FormatOf(from.precision).name);
  out.set_kv_type(KvTypeName(from.kv));
  out.set_activations(ActivationsName(from.activations));
  out.set_state(from.failed ? v1::FAILED : from.loaded ? state : v1::UNLOADED);
  *out.mutable_memory() = MemoryOf(model, variant);
  out.set_load_seconds(from.load_seconds);
  // A tied lm_head in another format than the embedding is a second tensor.
  if (from.tied_copy_bytes > 0) out.add_tied_copies("lm_head");
  return out;
}

v1::Model DescribeModel(const Model& model, int64_t max_context, const ServedMemory& memory,
                        const std::string& backend, v1::VariantState state) {
  v1::Model out;
  out.set_name(model.name);
  out.set_architecture(model.config.architecture);
  out.set_source(model.source);
  out.set_source_is_quantized(model.source_is_quantized);
  out.set_weights_sha256(model.weights_sha256);
  out.set_parameters(model.config.Parameters());
  out.set_vocab_size(static_cast<uint32_t>(model.config.vocab));
  out.set_max_context(static_cast<uint32_t>(max_context));
  out.set_has_tokenizer(model.tokenizer != nullptr);
  out.set_no_tokenizer_reason(model.no_tokenizer_reason);
  out.set_has_chat_template(model.chat_template != nullptr);
  out.set_no_chat_reason(model.no_chat_reason);
  for (size_t i = 0; i < model.variants.size(); ++i) {
    *out.add_variants() = DescribeVariant(model, static_cast<int>(i), state);
  }
  out.set_disk_bytes(model.memory.disk_bytes);
  out.set_weight_bytes(model.memory.weight_bytes);
  out.set_shared_weight_bytes(model.memory.shared_weight_bytes);
  out.set_kv_pool_bytes(memory.kv_pool_bytes);
  out.set_workspace_bytes(memory.workspace_bytes);
  out.set_resident_bytes(memory.resident_bytes);
  out.set_peak_load_bytes(memory.peak_load_bytes);
  out.set_backend(backend);
  out.set_integrity(IntegrityName(model.integrity));
  return out;
}

}  // namespace vernier
