#include "tests/simulation/traffic.h"

#include <algorithm>
#include <string>

#include "tests/simulation/hash_device.h"

namespace vernier::simulation {
namespace {

void FillScore(const TrafficMix& mix, Request* request, std::mt19937_64* random) {
  ScoreParams& score = request->score.emplace();
  if (Chance(random, mix.paired)) {
    score.reference_variant = static_cast<int>(Below(random, kVariants));
  }
  const int64_t prompt = static_cast<int64_t>(request->prompt.size());
  if (Chance(random, 30)) score.first_target = 1 + Below(random, prompt);
}

void FillSampling(const TrafficMix& mix, int64_t room, Request* request, std::mt19937_64* random) {
  SamplingParams& sampling = request->sampling;
  sampling.max_tokens = 1 + Below(random, std::min(room, mix.longest_output));
  sampling.seed = (*random)();
  sampling.ignore_eos = Chance(random, 30);
  if (Chance(random, 20)) sampling.min_tokens = Below(random, sampling.max_tokens + 1);
  if (Chance(random, 20)) sampling.stop_token_ids = {1 + static_cast<int32_t>(Below(random, 9))};
  if (Chance(random, mix.prompt_logprobs)) sampling.prompt_logprobs = 0;
  if (Chance(random, 20)) sampling.frequency_penalty = 0.5f;
}

}  // namespace

Arrival MakeArrival(const TrafficMix& mix, int64_t max_context, uint64_t id, absl::Duration now,
                    std::mt19937_64* random) {
  auto request = std::make_unique<Request>();
  request->id = id;
  request->variant = static_cast<int>(Below(random, kVariants));
  request->priority = Chance(random, mix.low) ? Priority::kLow : Priority::kNormal;
  request->prompt.resize(
      static_cast<size_t>(1 + Below(random, std::min(mix.longest_prompt, max_context - 1))));
  for (int32_t& token : request->prompt) token = static_cast<int32_t>(Below(random, kVocab));
  request->tenant = std::string(1, static_cast<char>('a' + Below(random, kTenants)));
  if (Chance(random, mix.alike)) {
    // One of a few texts, whole or up to somewhere.
    const int64_t text = Below(random, 3);
    const int64_t alike = 1 + Below(random, static_cast<int64_t>(request->prompt.size()));
    for (int64_t i = 0; i < alike; ++i) {
      request->prompt[static_cast<size_t>(i)] = static_cast<int32_t>((i * (text + 2)) % kVocab);
    }
  }
  if (Chance(random, mix.scores)) {
    FillScore(mix, request.get(), random);
  } else {
    FillSampling(mix, max_context - static_cast<int64_t>(request->prompt.size()), request.get(),
                 random);
  }
  int64_t stop_after = -1;
  if (Chance(random, mix.ends)) {
    const absl::Duration later = now + absl::Milliseconds(Below(random, 400));
    switch (Below(random, 3)) {
      case 0:
        request->deadline = later;
        break;
      case 1:
        request->time_limit = later;
        break;
      default:
        stop_after = 1 + Below(random, 20);
    }
  }
  request->control = std::make_shared<RequestControl>();
  auto client = std::make_shared<Client>(*request, stop_after);
  request->sink = client;
  return {std::move(request), std::move(client)};
}

}  // namespace vernier::simulation
