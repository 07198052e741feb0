// Files that say when requests came and how long they were.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vernier::loadtest {

struct TraceRow {
  double at = 0;  // seconds since the first
  int64_t prompt_tokens = 1;
  int64_t output_tokens = 1;
  std::vector<int64_t> blocks;  // what each kTraceBlockTokens of the prompt are; none: unknown
};

struct Trace {
  std::vector<TraceRow> rows;  // by time
  bool has_times = false;      // else lengths alone, and `at` is 0
  double Seconds() const { return rows.empty() ? 0 : rows.back().at; }
  double MeanRate() const;  // requests a second; 0 without times
};

inline constexpr int64_t kTraceBlockTokens = 512;  // of Mooncake's hash_ids

// By its first line one of
// - TIMESTAMP,ContextTokens,GeneratedTokens (AzurePublicDataset, LLM inference traces),
// - a JSON object a line with timestamp (ms), input_length, output_length and, where there are any,
//   hash_ids (kvcache-ai/Mooncake),
// - num_prefill_tokens,num_decode_tokens,... (microsoft/vidur): lengths without times.
// Lengths of 0 count as 1. INVALID_ARGUMENT with `name` and the line for anything else.
absl::StatusOr<Trace> ParseTrace(absl::string_view text, const std::string& name);

// NOT_FOUND or INVALID_ARGUMENT with the path; files above 1 GiB are refused.
absl::StatusOr<Trace> ReadTrace(const std::string& path);

}  // namespace vernier::loadtest
