// Random requests from a seed.
#pragma once

#include <cstdint>
#include <memory>
#include <random>

#include "engine/request.h"
#include "engine/reservation.h"
#include "tests/simulation/client.h"

namespace vernier::simulation {

inline constexpr int kVariants = 3;
inline constexpr int kTenants = 3;

// Shares are per cent.
struct TrafficMix {
  int arrivals = 20;      // of steps in which one or more requests arrive
  int burst = 4;          // at most this many at once
  int64_t max_live = 40;  // requests
  int64_t longest_prompt = 96;
  int64_t longest_output = 64;
  int low = 30;              // of the low class
  int scores = 20;           // Score instead of text
  int paired = 50;           // of those, against a reference
  int prompt_logprobs = 10;  // of texts
  int alike = 40;            // begin as others do
  int ends = 20;             // ended from outside: cancel, deadline, time limit, stop string
};

// 0 .. bound - 1, the same on every platform.
inline int64_t Below(std::mt19937_64* random, int64_t bound) {
  return static_cast<int64_t>((*random)() % static_cast<uint64_t>(bound));
}
inline bool Chance(std::mt19937_64* random, int percent) { return Below(random, 100) < percent; }

struct Arrival {
  std::unique_ptr<Request> request;  // its sink is `client`
  std::shared_ptr<Client> client;
};

// A request that fits `max_context`.
Arrival MakeArrival(const TrafficMix& mix, int64_t max_context, uint64_t id, absl::Duration now,
                    std::mt19937_64* random);

}  // namespace vernier::simulation
