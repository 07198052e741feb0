// What is sent: lengths, tenants, variants and token ids of one request after the other. Pure; the
// same for the same options.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "loadtest/trace.h"

namespace vernier::loadtest {

// One of a mix, chosen with probability weight / sum of weights.
struct Share {
  std::string name;
  double weight = 1;
};

// "a=1,b=2.5" or "a,b" (equal weights). INVALID_ARGUMENT naming what is wrong.
absl::StatusOr<std::vector<Share>> ParseShares(absl::string_view text);

struct WorkloadOptions {
  // The first of these that is given says how long requests are.
  std::shared_ptr<const Trace> lengths;  // its rows in order, and again from the first
  int64_t prompt_tokens = 0;             // of every request, with output_tokens; 0: not given
  int64_t output_tokens = 0;
  // Else lognormal, about as ShareGPT conversations are in vLLM's sample: prompts of 202 tokens in
  // the mean and answers of 179, with sigma 1.2 and 0.9.

  double length_scale = 1;               // of all of the above but fixed lengths
  std::vector<Share> tenants, variants;  // none: one without a name, the server's default
  int64_t shared_prefix_tokens = 0;      // with which all prompts of a tenant begin
  double cancelled_share = 0;  // that are cancelled after a number of tokens drawn from [0, output)
  uint64_t seed = 1;
  // Of the server: what is longer is cut, and counted.
  int64_t max_context = 0;
  int64_t vocab = 0;
};

struct PlannedRequest {
  uint64_t number = 0;
  int tenant = 0, variant = 0;  // indices into the options' lists
  int64_t prompt_tokens = 1, output_tokens = 1;
  int64_t cancel_after_tokens = -1;              // < 0: not at all
  const std::vector<int64_t>* blocks = nullptr;  // of its row of the trace
};

class Workload {
 public:
  explicit Workload(WorkloadOptions options);

  PlannedRequest Next();
  // Ids below `vocab`. Two prompts begin alike only where a shared prefix or equal blocks of the
  // trace say so.
  std::vector<uint32_t> PromptOf(const PlannedRequest& request) const;

  int64_t cut() const { return cut_; }  // requests that were longer than the context
  const WorkloadOptions& options() const { return options_; }
  std::string Describe() const;

 private:
  std::pair<int64_t, int64_t> NextLengths(PlannedRequest* request);

  const WorkloadOptions options_;
  // Own streams: another mix changes no length.
  std::mt19937_64 lengths_, mix_, cancels_;
  uint64_t number_ = 0;
  int64_t cut_ = 0;
};

}  // namespace vernier::loadtest
