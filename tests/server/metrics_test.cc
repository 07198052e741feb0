#include "server/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "server/metrics_compat.h"
#include "tests/testing/fake_engine.h"

namespace vernier {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<Metrics> ThreeVariants() {
  return std::make_unique<Metrics>(
      "m", std::vector<VariantLabels>{{"fp16", "fp16"}, {"int8", "int8"}, {"nf4", "nf4"}}, 8192);
}

std::vector<std::string> Series(const std::string& page) {
  std::vector<std::string> series;
  for (const absl::string_view line : absl::StrSplit(page, '\n', absl::SkipEmpty())) {
    if (!absl::StartsWith(line, "#")) series.emplace_back(line);
  }
  return series;
}

TEST(MetricsTest, SeriesFitTheBudgetAndAreUnique) {
  const auto metrics = ThreeVariants();
  const auto series = Series(RenderPrometheus(metrics->Collect()));
  EXPECT_LE(series.size(), 3000u);
  std::set<std::string> names;
  for (const std::string& line : series) names.insert(line.substr(0, line.rfind(' ')));
  EXPECT_EQ(names.size(), series.size());
}

TEST(MetricsTest, VllmsNamesAreOneSeriesEachAndSumTheVariants) {
  const auto metrics = ThreeVariants();
  EndedRequest end;
  end.event.timings.total = absl::Seconds(1);
  metrics->RequestFinished(Method::kGenerate, 0, end);
  metrics->RequestFinished(Method::kGenerateStream, 2, end);
  auto families = metrics->Collect();
  const size_t ours = families.size();
  AppendVllmAliases("m", &families);
  const std::string page = RenderPrometheus(families);
  EXPECT_THAT(page, HasSubstr("\nvllm:num_requests_waiting{model_name=\"m\",engine=\"0\"} 0\n"));
  EXPECT_THAT(page, HasSubstr("\nvllm:e2e_request_latency_seconds_count{model_name=\"m\","
                              "engine=\"0\"} 2\n"));
  EXPECT_THAT(page, HasSubstr("\nvllm:e2e_request_latency_seconds_sum{model_name=\"m\","
                              "engine=\"0\"} 2\n"));
  for (size_t i = ours; i < families.size(); ++i) {
    EXPECT_TRUE(absl::StartsWith(families[i].name, "vllm:")) << families[i].name;
    EXPECT_EQ(families[i].metric.size(), 1u) << families[i].name;
  }
  EXPECT_EQ(families.size() - ours, 6u);  // the seventh comes with the model's KV pool
}

TEST(MetricsTest, NamesAreOursOrTheStandardOnes) {
  const auto metrics = ThreeVariants();
  for (const auto& family : metrics->Collect()) {
    EXPECT_TRUE(std::regex_match(family.name, std::regex("(vernier|process)_[a-z0-9_]+")))
        << family.name;
    EXPECT_FALSE(family.help.empty());
    const bool counter = family.type == prometheus::MetricType::Counter;
    EXPECT_EQ(counter, absl::EndsWith(family.name, "_total")) << family.name;
  }
}

TEST(MetricsTest, EverySeriesOfARequestExistsAtZeroFromTheStart) {
  const auto metrics = ThreeVariants();
  const std::string page = RenderPrometheus(metrics->Collect());
  for (const char* line :
       {"vernier_requests_total{model_name=\"m\",variant=\"nf4\",precision=\"nf4\",method="
        "\"GenerateStream\",code=\"CANCELLED\",finished_reason=\"cancelled\"} 0",
        "vernier_admission_rejections_total{model_name=\"m\",variant=\"none\",precision=\"none\","
        "reason=\"queue_tokens\"} 0",
        "vernier_pod_requests_waiting 0", "vernier_time_to_first_token_seconds_count"}) {
    EXPECT_THAT(page, HasSubstr(line));
  }
}

TEST(MetricsTest, ARequestIsCountedExactlyOnce) {
  const auto metrics = ThreeVariants();
  EndedRequest end;
  end.reason = FinishReason::kEos;
  end.event.prompt_tokens = 5;
  end.event.completion_tokens = end.delivered_tokens = 2;
  end.max_tokens = 4;
  metrics->RequestFinished(Method::kGenerate, 1, end);
  metrics->Rejected(Method::kCompare, -1, absl::NotFoundError("x"));
  double total = 0;
  for (const auto& family : metrics->Collect()) {
    if (family.name != "vernier_requests_total") continue;
    for (const auto& metric : family.metric) total += metric.counter.value;
  }
  EXPECT_EQ(total, 2);
}

TEST(MetricsTest, PodLevelIsOneSeriesEach) {
  const auto metrics = ThreeVariants();
  GaugeInputs inputs;
  inputs.engine.variants = {
      {.waiting = 1, .running = 2, .queued_prompt_tokens = 10, .kv_blocks = 3},
      {.waiting = 1, .queued_prompt_tokens = 5, .kv_blocks = 1},
      {}};
  inputs.engine.kv_blocks_total = 10;
  inputs.engine.kv_blocks_free = 6;
  metrics->SetGauges(inputs);
  const std::string page = RenderPrometheus(metrics->Collect());
  EXPECT_THAT(page, HasSubstr("vernier_pod_requests_waiting 2\n"));
  EXPECT_THAT(page, HasSubstr("vernier_pod_requests_running 2\n"));
  EXPECT_THAT(page, HasSubstr("vernier_pod_kv_cache_usage_ratio 0.4"));
}

TEST(MetricsTest, MemoryComponentsSumToTheGrowth) {
  const auto metrics = ThreeVariants();
  auto model = testing::FakeModel(true);
  model->memory.weight_bytes = 100;
  model->memory.shared_weight_bytes = 40;
  model->memory.tokenizer_bytes = 5;
  model->variants[0].own_bytes = 30;
  model->variants[1].own_bytes = 20;
  model->variants[2].own_bytes = 10;
  metrics->SetModel(*model, 8);
  metrics->SetResident(1000, 1300, 70, 20, *model);
  double sum = 0;
  for (const auto& family : metrics->Collect()) {
    if (family.name != "vernier_memory_bytes") continue;
    for (const auto& metric : family.metric) sum += metric.gauge.value;
  }
  EXPECT_EQ(sum, 300);
}

TEST(MetricsTest, ExactlyOneStateOfAVariantIsSet) {
  const auto metrics = ThreeVariants();
  const auto states = [&] {
    double sum = 0;
    for (const auto& family : metrics->Collect()) {
      if (family.name != "vernier_variant_state") continue;
      for (const auto& metric : family.metric) sum += metric.gauge.value;
    }
    return sum;
  };
  EXPECT_EQ(states(), 3);
  GaugeInputs inputs;
  inputs.engine.variants.resize(3);
  inputs.ready = true;
  metrics->SetGauges(inputs);
  EXPECT_EQ(states(), 3);
}

TEST(MetricsTest, HistogramBucketsAreCumulative) {
  Histogram histogram({1, 2, 4});
  for (const double value : {0.5, 1.0, 3.0, 100.0}) histogram.Observe(value);
  EXPECT_EQ(histogram.count(), 4);
  MetricTable table;
  Histogram* in_table = table.AddHistogram("vernier_x", "help", {1, 2, 4}, {});
  for (const double value : {0.5, 1.0, 3.0, 100.0}) in_table->Observe(value);
  const std::string page = RenderPrometheus(table.Collect());
  EXPECT_THAT(page, HasSubstr("vernier_x_bucket{le=\"1\"} 2\n"));
  EXPECT_THAT(page, HasSubstr("vernier_x_bucket{le=\"4\"} 3\n"));
  EXPECT_THAT(page, HasSubstr("vernier_x_bucket{le=\"+Inf\"} 4\n"));
}

TEST(MetricsTest, OpenMetricsEndsWithEofAndNamesCountersWithoutTotal) {
  MetricTable table;
  table.AddCounter("vernier_things_total", "help", {{"kind", "a\"b"}})->Add(3);
  table.AddHistogram("vernier_x", "help", {1}, {})->Observe(0.5);
  const std::string page = RenderOpenMetrics(table.Collect());
  EXPECT_THAT(page, HasSubstr("# TYPE vernier_things counter\n"));
  EXPECT_THAT(page, HasSubstr("vernier_things_total{kind=\"a\\\"b\"} 3\n"));
  EXPECT_THAT(page, HasSubstr("vernier_x_bucket{le=\"1.0\"} 1\n"));
  EXPECT_TRUE(absl::EndsWith(page, "# EOF\n"));
}

}  // namespace
}  // namespace vernier
