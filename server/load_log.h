// When to say how far loading is, and what: bytes, share and the time that is left.
//
// Pure: time is an argument. One thread.
#pragma once

#include <optional>
#include <string>

#include "absl/time/time.h"
#include "engine/model/model.h"

namespace vernier {

class LoadLog {
 public:
  // `now`: of the clock whose time Next is given; loading begins.
  explicit LoadLog(absl::Duration now) : began_(now), last_(now) {}

  // A line for the log at most every 2 s: a model that loads faster leaves none.
  std::optional<std::string> Next(const LoadProgress& progress, absl::Duration now);
  // The line at the end: what was loaded, how fast, and what it was compared with.
  std::string Last(const Model& model, absl::Duration now) const;

 private:
  const absl::Duration began_;
  absl::Duration last_;
  LoadProgress progress_;
};

}  // namespace vernier
