// Mirrored requests: what another arm's variant would have answered, for its scores alone.
//
// A shadow generates from the same prompt with the same seed, and scores the answer that was given
// under its own variant against the one that gave it, both in the low class. Nobody waits for it;
// it is the first to go when there is anything else to do.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "server/call.h"
#include "server/convert.h"
#include "server/experiments/registry.h"
#include "server/sample.h"

namespace vernier {

// A request that was answered.
struct Answered {
  GenerateSpec spec;
  std::vector<int32_t> prompt, ids;
  float mean_logprob = ExposureRecord::kAbsent;
};

// Thread-safe.
class ShadowPool {
 public:
  explicit ShadowPool(int most) : most_(most) {}

  // One shadow for every other arm that can serve. What finds others waiting for the device, or
  // `most` shadows at work, is logged as dropped. REQUIRES: the experiments want a shadow of it.
  void Mirror(const Served& served, const CallContext& context, const Exposure& exposure,
              const std::shared_ptr<const Answered>& answered);

 private:
  friend class ShadowCall;
  bool TryBegin(const Served& served);

  const int most_;
  std::atomic<int> running_{0};
};

}  // namespace vernier
