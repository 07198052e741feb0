// What the server's metrics page says at a time, as a point of the timeline.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "loadtest/report/report.h"

namespace vernier::loadtest {

// Reads the gauges of the timeline from Prometheus text; what is not there is 0. Pure.
TimelinePoint ParseMetrics(absl::string_view text, double at);

// GET http://`address`/metrics within a second. UNAVAILABLE where it fails.
absl::StatusOr<std::string> FetchMetrics(const std::string& address);

}  // namespace vernier::loadtest
