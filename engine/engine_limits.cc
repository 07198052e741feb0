#include "engine/engine_limits.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/forward.h"
#include "engine/status_payload.h"
#include "kernels/backend.h"

namespace vernier {
namespace {

// A slot is an int32_t.
constexpr int64_t kMaxBlocks = std::numeric_limits<int32_t>::max() / kBlockTokens;

// The sum of what variants are guaranteed of `blocks`.
absl::StatusOr<int64_t> GuaranteedBlocks(const EngineOptions& options, const Model& model,
                                         int64_t blocks) {
  if (options.guaranteed_blocks.size() > model.variants.size()) {
    return InvalidField({"guaranteed_blocks", absl::StrCat(options.guaranteed_blocks.size()),
                         absl::StrCat("at most ", model.variants.size(), " variants")});
  }
  int64_t sum = 0;
  for (const int64_t guaranteed : options.guaranteed_blocks) {
    if (guaranteed < 0 || guaranteed > blocks - 2 - sum) {
      return InvalidField({"guaranteed_blocks", absl::StrCat(guaranteed, " after ", sum),
                           absl::StrCat("at most ", blocks - 2, " in all, of ", blocks)});
    }
    sum += guaranteed;
  }
  return sum;
}

}  // namespace

absl::StatusOr<SchedulerLimits> LimitsFor(const EngineOptions& options, const Model& model) {
  const std::pair<const char*, int64_t> positive[] = {{"max_sequences", options.max_sequences},
                                                      {"step_tokens", options.step_tokens},
                                                      {"planning_depth", options.planning_depth}};
  for (const auto& [name, value] : positive) {
    if (value < 1) return InvalidField({name, absl::StrCat(value), "at least 1"});
  }
  if (options.max_logit_rows < 0) {
    return InvalidField({"max_logit_rows", absl::StrCat(options.max_logit_rows), "at least 0"});
  }
  for (const double weight : options.weights) {
    if (!(weight >= kLeastWeight && weight <= kMostWeight)) {
      return InvalidField({"weights", absl::StrCat(weight),
                           absl::StrCat("in [", kLeastWeight, ", ", kMostWeight, "]")});
    }
  }
  if (options.planning_depth > 2) {
    return InvalidField({"planning_depth", absl::StrCat(options.planning_depth), "1 or 2"});
  }
  const int64_t block_bytes =
      KvBlockBytes(model.config.num_layers, model.config.attention, WidestKv(model));
  const int64_t blocks =
      options.kv_blocks != 0 ? options.kv_blocks : options.kv_bytes / block_bytes;
  if (blocks < 2 || blocks > kMaxBlocks) {
    return InvalidField({"kv_blocks", absl::StrCat(blocks, " of ", block_bytes, " bytes"),
                         absl::StrCat("in [2, ", kMaxBlocks, "]")});
  }
  absl::StatusOr<int64_t> guaranteed = GuaranteedBlocks(options, model, blocks);
  if (!guaranteed.ok()) return guaranteed.status();
  // A score against a reference holds two tables at once, and gets them although all other
  // variants' guarantees are kept.
  const int64_t largest_context = (blocks - *guaranteed) / 2 * kBlockTokens;
  const int64_t context = options.max_context != 0
                              ? options.max_context
                              : std::min(model.config.context, largest_context);
  if (context < 1 || context > model.config.context) {
    return InvalidField(
        {"max_context", absl::StrCat(context), absl::StrCat("in [1, ", model.config.context, "]")});
  }
  if (context > largest_context) {
    return InvalidField(
        {"max_context", absl::StrCat(context, " tokens"),
         absl::StrCat("at most ", largest_context, " with ", blocks, " cache blocks of ",
                      block_bytes, " bytes, ", *guaranteed,
                      " of them guaranteed: two sequences of that length must fit")});
  }
  const int logit_rows = options.max_logit_rows > 0
                             ? options.max_logit_rows
                             : std::min(options.max_sequences, options.step_tokens);
  return SchedulerLimits{.kv_blocks = blocks,
                         .max_context = context,
                         .step_tokens = options.step_tokens,
                         .max_logit_rows = logit_rows,
                         .max_sequences = options.max_sequences,
                         .max_preemptions = options.max_preemptions,
                         .prefix_cache = options.prefix_cache,
                         .guaranteed_blocks = options.guaranteed_blocks,
                         .weights = options.weights,
                         .inter_token_goal = options.inter_token_goal,
                         .aging = options.aging};
}

}  // namespace vernier
