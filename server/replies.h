// What the engine and the model say, as proto messages.
//
// Pure functions; any thread.
#pragma once

#include <cstdint>
#include <string>

#include "engine/model/model.h"
#include "engine/request.h"
#include "vernier/v1/common.pb.h"
#include "vernier/v1/models.pb.h"

namespace vernier {

v1::ServedBy ServedByOf(const Model& model, int variant, uint64_t seed);
v1::VariantMemory MemoryOf(const Model& model, int variant);
v1::FinishReason FinishReasonOf(FinishReason reason);
v1::Timings TimingsOf(const Timings& timings, int64_t completion_tokens);
v1::Usage UsageOf(const FinishEvent& event, int64_t completion_tokens);

// One token with its log-probability, and the alternatives at its position (`top` may be null;
// of it at most `shown`). Bytes are empty without a tokenizer.
void FillTokenDetail(const Tokenizer* tokenizer, int32_t id, float logprob, const TopLogprobs* top,
                     int shown, v1::TokenDetail* detail);

// What the process holds beside the model, for ListModels.
struct ServedMemory {
  int64_t kv_pool_bytes = 0;
  int64_t workspace_bytes = 0;
  int64_t resident_bytes = 0;
  int64_t peak_load_bytes = 0;
};
v1::Variant DescribeVariant(const Model& model, int variant, v1::VariantState state);
v1::Model DescribeModel(const Model& model, int64_t max_context, const ServedMemory& memory,
                        const std::string& backend, v1::VariantState state);

}  // namespace vernier
