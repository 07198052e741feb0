// The report of a load test: runs with their figures, as text, JSON, CSV and one HTML page; and the
// comparison of two. Pure.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "loadtest/report/knee.h"
#include "loadtest/report/summary.h"

namespace vernier::loadtest {

// What the server said of itself at a time.
struct TimelinePoint {
  double at = 0;  // seconds since the run began
  double waiting = 0, running = 0;
  double kv_usage = 0;  // share of the pool
  double resident_bytes = 0;
  double open_files = 0, threads = 0;
};

struct NamedSummary {
  std::string name;
  Summary summary;
};

struct RunReport {
  std::string label;   // "rate 12.5", "concurrency 64"
  double offered = 0;  // requests a second asked for; 0: a closed loop
  Summary all;
  std::vector<NamedSummary> tenants, variants;  // only where there are two or more
  std::vector<TimelinePoint> timeline;
};

// What BuildRun is told of a run beside its outcomes.
struct RunFacts {
  std::string label;
  double offered = 0;
  Window window;
  Slo slo;
  std::vector<std::string> tenants, variants;  // names, by the outcomes' indices
};
RunReport BuildRun(const RunFacts& facts, std::span<const Outcome> outcomes,
                   std::vector<TimelinePoint> timeline);

struct Report {
  std::string date;       // UTC
  std::string processor;  // of the machine the client ran on
  std::string server;     // "stories260K (cpu avx512, 2 threads)"
  std::string workload;   // in words
  Slo slo;
  double attainment = 0.99;
  std::vector<RunReport> runs;
};

// The knee over the runs that have a rate.
Knee KneeOf(const Report& report);
// Of output tokens between tenants of equal demand; 1 for fewer than two.
double TenantJainIndex(const RunReport& run);

std::string ToText(const Report& report);
std::string ToJson(const Report& report);
std::string ToCsv(const Report& report);  // a line a run, tenant and variant
std::string ToHtml(const Report& report);

// A table of what changed from one JSON report to another, run by run in order, with how much
// better or worse. INVALID_ARGUMENT with what is wrong for text that is no report of this program,
// or reports with different labels of runs.
absl::StatusOr<std::string> CompareReports(absl::string_view before, absl::string_view after);

}  // namespace vernier::loadtest
