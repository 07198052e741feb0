#include "kernels/cuda/decode_plan.h"

#include <algorithm>

namespace vernier::cuda {
namespace {

// Two blocks of threads on each of 132 multiprocessors; twelve runs each differ little in sum.
constexpr int64_t kEnoughRuns = 12 * 2 * 132;

int64_t RunsOf(std::span<const DecodeRow> rows, int64_t keys) {
  int64_t runs = 0;
  for (const DecodeRow& row : rows) runs += (row.context + keys - 1) / keys;
  return runs;
}

int64_t KeysFor(int tiles, int64_t most_partials, std::span<const DecodeRow> rows) {
  int64_t longest = 0, all = 0;
  for (const DecodeRow& row : rows) {
    longest = std::max<int64_t>(longest, row.context);
    all += row.context;
  }
  int64_t keys = kLeastRunKeys;
  while (keys < longest &&
         (all * tiles >= 2 * keys * kEnoughRuns || RunsOf(rows, keys) > most_partials)) {
    keys *= 2;
  }
  return keys;
}

}  // namespace

DecodePlan PlanDecode(int tiles, int64_t most_partials, std::span<DecodeRow> rows) {
  const auto keys = static_cast<int32_t>(KeysFor(tiles, most_partials, rows));
  DecodePlan plan{.keys = keys};
  plan.runs.reserve(RunsOf(rows, keys));
  int32_t next_partial = 0;
  for (DecodeRow& row : rows) {
    const int32_t runs = (row.context + keys - 1) / keys;
    row.first_partial = next_partial;
    row.partials = runs > 1 ? runs : 0;
    next_partial += row.partials;
  }
  const auto add = [&](const DecodeRow& row, int32_t run) {
    plan.runs.push_back({row.row, row.first_block, row.context, run * keys,
                         row.partials > 0 ? row.first_partial + run : -1});
  };
  for (const DecodeRow& row : rows) {
    for (int32_t run = 0; run < row.context / keys; ++run) add(row, run);
  }
  for (const DecodeRow& row : rows) {
    if (row.context % keys != 0) add(row, row.context / keys);
  }
  return plan;
}

}  // namespace vernier::cuda
