#include "engine/request.h"

namespace vernier {

const char* FinishReasonName(FinishReason reason) {
  static constexpr const char* kNames[] = {"none",       "stop",      "eos",      "length",
                                           "time_limit", "cancelled", "deadline", "slow_consumer",
                                           "drain",      "error"};
  return kNames[static_cast<int>(reason)];
}

}  // namespace vernier
