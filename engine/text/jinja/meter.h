// What one render has used, and its first failure, which ends it.
//
// Used by one thread. After a failure every operation still returns some value, and nothing of it
// is seen: statements and loops look at ok().
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/value.h"

namespace vernier::jinja {

class Meter {
 public:
  Meter(const Limits& limits, absl::Time now) : limits_(limits), now_(now) {}

  bool ok() const { return status_.ok(); }
  const absl::Status& status() const { return status_; }
  const Limits& limits() const { return limits_; }
  absl::Time now() const { return now_; }

  // One step at `line`. False when the render has failed.
  bool Step(int line);
  // Work on so many bytes. False when the render has failed.
  bool Work(size_t bytes);
  // An evaluation inside the present one; every Enter that returns true wants a Leave.
  bool Enter();
  void Leave() { --depth_; }

  // INVALID_ARGUMENT "template line 3: ...". Returns undefined, for callers to return.
  Value Fail(absl::string_view what);
  // RESOURCE_EXHAUSTED, naming the limit.
  Value FailLimit(absl::string_view what);

 private:
  const Limits limits_;
  const absl::Time now_;
  int line_ = 1;
  int depth_ = 0;
  int64_t steps_ = 0;
  int64_t work_bytes_ = 0;
  absl::Status status_;
};

// Enter and Leave as a scope.
class Nested {
 public:
  explicit Nested(Meter& meter) : meter_(meter), ok_(meter.Enter()) {}
  ~Nested() {
    if (ok_) meter_.Leave();
  }
  Nested(const Nested&) = delete;
  Nested& operator=(const Nested&) = delete;
  bool ok() const { return ok_; }

 private:
  Meter& meter_;
  const bool ok_;
};

}  // namespace vernier::jinja
