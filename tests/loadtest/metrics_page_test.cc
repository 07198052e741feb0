#include "loadtest/metrics_page.h"

#include <gtest/gtest.h>

namespace vernier::loadtest {
namespace {

TEST(MetricsPageTest, ReadsTheGaugesOfTheTimeline) {
  const TimelinePoint point = ParseMetrics(
      "# HELP vernier_pod_requests_waiting Requests waiting.\n"
      "vernier_pod_requests_waiting{model_name=\"a 9\"} 7\n"
      "vernier_pod_requests_waiting_more 5\n"
      "vernier_pod_kv_cache_usage_ratio 0.25\n"
      "process_resident_memory_bytes 1.5e+06\n"
      "process_threads\n{} \n \n",
      3);
  EXPECT_EQ(point.at, 3);
  EXPECT_EQ(point.waiting, 7);
  EXPECT_EQ(point.kv_usage, 0.25);
  EXPECT_EQ(point.resident_bytes, 1.5e6);
  EXPECT_EQ(point.threads, 0);
}

TEST(MetricsPageTest, NobodyThereIsUnavailable) {
  EXPECT_EQ(FetchMetrics("127.0.0.1:1").status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(FetchMetrics("nowhere").status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace vernier::loadtest
