// What a request's end says of the variant that served it: whose fault, and whether the answer is
// one at all. Pure functions of tokens and records, shared by guardrails and reports.
#pragma once

#include <cstdint>
#include <span>

#include "server/experiments/exposure_record.h"

namespace vernier {

// Share in [0, 1] of an answer's 4-grams of tokens that occurred in it before: seq-rep-4 of Welleck
// et al. 2020 (arXiv 1908.04319), 0.006 for people and 0.44 for greedy GPT-2 there. 0 of fewer than
// four tokens. Time and memory grow with the number of tokens.
double LoopRate(std::span<const int32_t> tokens);

// An answer loops when three quarters of its 4-grams are repetitions: more than prose, code, tables
// and configurations reach in passages of 64 tokens and more, and what a loop does that fills the
// last four fifths. README.md has the figures; arrays of like objects may reach it too.
inline constexpr double kLoopRateLimit = 0.75;
inline constexpr uint32_t kLeastLoopTokens = 64;

// A gRPC status that is our fault: INTERNAL, UNKNOWN, DATA_LOSS.
bool IsOurFailure(uint8_t grpc_status);

enum class RequestEnd : uint8_t {
  kAnswered,    // by the model's own end, a stop string or the limit of tokens
  kFailed,      // our failure, or the arm's variant could not serve it and another did
  kSaysNothing  // of the variant: cancelled, refused, overload, out of time
};
// REQUIRES: a kDone record.
RequestEnd EndOf(const ExposureRecord& record);

// An answer that is empty or loops. Only what was answered by the arm's own variant can be broken.
// REQUIRES: a kDone record.
bool IsBroken(const ExposureRecord& record);

}  // namespace vernier
