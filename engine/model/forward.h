// The transformer, once for all architectures: which calls of the backend make a token's logits.
//
// What differs between architectures (norms, biases, gates, rotary, tied heads) is data of the
// Model.
#pragma once

#include <cstdint>

#include "engine/model/model.h"
#include "kernels/backend.h"

namespace vernier {

// Appends one pass of `variant` over the batch being executed: call it inside Backend::Execute's
// `forward`. The logits of the batch's logit rows go to `logits_buffer`. `model` must live until
// the step is synchronized. REQUIRES: 0 <= variant < model.variants.size(), 0 <= logits_buffer <
// kLogitBuffers.
void ForwardPass(const Model& model, int variant, int logits_buffer, Backend* backend);

// Of the variants' KV types the one whose blocks are largest: all variants share blocks of its
// size.
KvType WidestKv(const Model& model);

// What Backend::CreateWorkspace needs to run any variant of `model`: batches of at most `max_rows`
// rows, `max_logit_rows` of them with logits, sequences of at most `max_context` tokens, and
// `kv_blocks` blocks of kBlockTokens tokens shared by all variants.
WorkspacePlan PlanWorkspace(const Model& model, int64_t max_rows, int64_t max_logit_rows,
                            int64_t max_context, int64_t kv_blocks);

}  // namespace vernier
