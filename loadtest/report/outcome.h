// What one request of a load test saw, as seconds since the run began.
#pragma once

#include <cstdint>
#include <vector>

namespace vernier::loadtest {

enum class Ending {
  kCompleted,   // by its length or a stop
  kRefused,     // RESOURCE_EXHAUSTED or UNAVAILABLE before a token
  kDeadline,    // DEADLINE_EXCEEDED
  kCancelled,   // by the plan of the test
  kFailed,      // any other status, or a status after the first token
  kUnfinished,  // still running when the test gave up on it
};

struct Outcome {
  double scheduled = 0;  // when it was to be sent: latencies count from here
  double sent = 0;       // when it was
  double first = -1;     // first token; < 0: none came
  double last = -1;      // last token
  double ended = 0;      // its status
  Ending ending = Ending::kUnfinished;
  int tenant = 0;   // index of the workload's
  int variant = 0;  // likewise
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;  // that came
  int64_t cached_tokens = 0;  // of the prompt, as the server says
  std::vector<float> gaps;    // between messages that brought tokens, seconds
};

}  // namespace vernier::loadtest
