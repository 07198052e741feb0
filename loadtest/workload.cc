#include "loadtest/workload.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace vernier::loadtest {
namespace {

constexpr double kMostWeight = 1e6;
constexpr double kPromptMean = 202, kPromptSigma = 1.2;  // see WorkloadOptions
constexpr double kOutputMean = 179, kOutputSigma = 0.9;

// SplitMix64 (Steele, Lea and Flood 2014): a hash with which every id is drawn on its own.
uint64_t Mix(uint64_t value) {
  value += 0x9e3779b97f4a7c15u;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

double LogNormal(double mean, double sigma, std::mt19937_64* random) {
  return std::lognormal_distribution<double>(std::log(mean) - sigma * sigma / 2, sigma)(*random);
}

int PickFrom(const std::vector<Share>& shares, std::mt19937_64* random) {
  double all = 0;
  for (const Share& share : shares) all += share.weight;
  double left = std::uniform_real_distribution<double>(0, all)(*random);
  for (size_t i = 0; i + 1 < shares.size(); ++i) {
    left -= shares[i].weight;
    if (left < 0) return static_cast<int>(i);
  }
  return shares.empty() ? 0 : static_cast<int>(shares.size()) - 1;
}

int64_t Scaled(double tokens, double scale) {
  return static_cast<int64_t>(std::llround(std::clamp(tokens * scale, 1.0, 1e12)));
}

std::string DescribeShares(const char* what, const std::vector<Share>& shares) {
  if (shares.empty()) return "";
  return absl::StrCat(", ", what, " ",
                      absl::StrJoin(shares, " ", [](std::string* out, const Share& share) {
                        absl::StrAppend(out, share.name, "=", share.weight);
                      }));
}

}  // namespace

absl::StatusOr<std::vector<Share>> ParseShares(absl::string_view text) {
  std::vector<Share> shares;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> cut =
        absl::StrSplit(part, absl::MaxSplits('=', 1));
    Share share{std::string(cut.first), 1};
    const bool weighted = part.find('=') != absl::string_view::npos;
    if (share.name.empty() || (weighted && !(absl::SimpleAtod(cut.second, &share.weight) &&
                                             share.weight > 0 && share.weight <= kMostWeight))) {
      return absl::InvalidArgumentError(absl::StrCat(
          "\"", part, "\" is not NAME or NAME=WEIGHT with a weight in (0, ", kMostWeight, "]"));
    }
    for (const Share& other : shares) {
      if (other.name == share.name) {
        return absl::InvalidArgumentError(absl::StrCat("\"", share.name, "\" is there twice"));
      }
    }
    shares.push_back(std::move(share));
  }
  return shares;
}

Workload::Workload(WorkloadOptions options)
    : options_(std::move(options)),
      lengths_(Mix(options_.seed)),
      mix_(Mix(options_.seed + 1)),
      cancels_(Mix(options_.seed + 2)) {}

std::pair<int64_t, int64_t> Workload::NextLengths(PlannedRequest* request) {
  if (options_.lengths != nullptr) {
    const TraceRow& row = options_.lengths->rows[number_ % options_.lengths->rows.size()];
    if (!row.blocks.empty()) request->blocks = &row.blocks;
    return {Scaled(static_cast<double>(row.prompt_tokens), options_.length_scale),
            Scaled(static_cast<double>(row.output_tokens), options_.length_scale)};
  }
  if (options_.prompt_tokens > 0) return {options_.prompt_tokens, options_.output_tokens};
  const double prompt = LogNormal(kPromptMean, kPromptSigma, &lengths_);
  const double output = LogNormal(kOutputMean, kOutputSigma, &lengths_);
  return {Scaled(prompt, options_.length_scale), Scaled(output, options_.length_scale)};
}

PlannedRequest Workload::Next() {
  PlannedRequest request;
  const auto [prompt, output] = NextLengths(&request);
  // Half of the context at most for the answer; the prompt gets what is left.
  request.output_tokens =
      std::clamp<int64_t>(output, 1, std::max<int64_t>(1, options_.max_context / 2));
  request.prompt_tokens =
      std::clamp<int64_t>(prompt + options_.shared_prefix_tokens, 1,
                          std::max<int64_t>(1, options_.max_context - request.output_tokens));
  cut_ += request.output_tokens < output ||
          request.prompt_tokens < prompt + options_.shared_prefix_tokens;
  request.tenant = PickFrom(options_.tenants, &mix_);
  request.variant = PickFrom(options_.variants, &mix_);
  std::uniform_real_distribution<double> unit(0, 1);
  const double chance = unit(cancels_), share = unit(cancels_);
  if (chance < options_.cancelled_share) {
    request.cancel_after_tokens =
        static_cast<int64_t>(share * static_cast<double>(request.output_tokens));
  }
  request.number = number_++;
  return request;
}

std::vector<uint32_t> Workload::PromptOf(const PlannedRequest& request) const {
  const uint64_t vocab = static_cast<uint64_t>(std::max<int64_t>(1, options_.vocab));
  const uint64_t own = Mix(Mix(options_.seed) ^ request.number);
  const uint64_t tenant = Mix(Mix(options_.seed + 3) ^ static_cast<uint64_t>(request.tenant));
  const int64_t block_tokens = Scaled(kTraceBlockTokens, options_.length_scale);
  std::vector<uint32_t> ids;
  ids.reserve(static_cast<size_t>(request.prompt_tokens));
  for (int64_t i = 0; i < request.prompt_tokens; ++i) {
    uint64_t from = own;
    int64_t at = i;
    if (i < options_.shared_prefix_tokens) {
      from = tenant;
    } else if (request.blocks != nullptr) {
      const int64_t behind = i - options_.shared_prefix_tokens;
      const size_t block = static_cast<size_t>(behind / block_tokens);
      if (block < request.blocks->size()) {
        from = Mix(static_cast<uint64_t>((*request.blocks)[block]));
        at = behind % block_tokens;
      }
    }
    ids.push_back(static_cast<uint32_t>(Mix(from ^ Mix(static_cast<uint64_t>(at))) % vocab));
  }
  return ids;
}

std::string Workload::Describe() const {
  std::string out;
  if (options_.lengths != nullptr) {
    out = absl::StrCat("lengths of a file times ", options_.length_scale);
  } else if (options_.prompt_tokens > 0) {
    out = absl::StrCat(options_.prompt_tokens, " prompt and ", options_.output_tokens,
                       " output tokens");
  } else {
    out = absl::StrCat("ShareGPT-like lengths (lognormal, means ", kPromptMean, " and ",
                       kOutputMean, ") times ", options_.length_scale);
  }
  absl::StrAppend(&out, " within a context of ", options_.max_context);
  if (options_.shared_prefix_tokens > 0) {
    absl::StrAppend(&out, ", ", options_.shared_prefix_tokens, " first tokens alike in a tenant");
  }
  absl::StrAppend(&out, DescribeShares("tenants", options_.tenants),
                  DescribeShares("variants", options_.variants));
  if (options_.cancelled_share > 0) {
    absl::StrAppend(&out, ", ", options_.cancelled_share * 100, " % cancelled");
  }
  return absl::StrCat(out, ", seed ", options_.seed);
}

}  // namespace vernier::loadtest
