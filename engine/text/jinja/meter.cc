#include "engine/text/jinja/meter.h"

#include "absl/strings/str_cat.h"

namespace vernier::jinja {

bool Meter::Step(int line) {
  if (!ok()) return false;
  line_ = line;
  if (++steps_ > limits_.steps)
    FailLimit(absl::StrCat("takes more than ", limits_.steps, " steps"));
  return ok();
}

bool Meter::Work(size_t bytes) {
  if (!ok()) return false;
  if (bytes > static_cast<size_t>(limits_.work_bytes - work_bytes_)) {
    FailLimit(absl::StrCat("works on more than ", limits_.work_bytes, " bytes"));
    return false;
  }
  work_bytes_ += static_cast<int64_t>(bytes);
  return true;
}

bool Meter::Enter() {
  if (!ok()) return false;
  if (depth_ >= limits_.depth) {
    FailLimit(absl::StrCat("evaluates more than ", limits_.depth, " levels deep"));
    return false;
  }
  ++depth_;
  return true;
}

Value Meter::Fail(absl::string_view what) {
  if (ok()) {
    status_ = absl::InvalidArgumentError(absl::StrCat("template line ", line_, ": ", what));
  }
  return Value();
}

Value Meter::FailLimit(absl::string_view what) {
  if (ok()) {
    status_ = absl::ResourceExhaustedError(absl::StrCat("template line ", line_, ": ", what));
  }
  return Value();
}

}  // namespace vernier::jinja
