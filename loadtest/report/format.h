// The name and version of the JSON that ToJson writes and CompareReports reads.
#pragma once

namespace vernier::loadtest {

inline constexpr char kReportFormat[] = "vernier-loadtest/1";

}  // namespace vernier::loadtest
