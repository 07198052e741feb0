// What experiments cost a request, and how often what decides them is wrong.
//
// --rows costs: assignment and exposure of 10,000 requests a second, one by one and 8,000 at once,
// as the daemon does them, how soon a guardrail takes an arm away, and what reports and guardrails
// take of a record. --rows decisions: thousands of simulated
// experiments through the reports and guardrails that decide real ones, with fixed seeds: figures
// that do not depend on the machine. CSV: row, figure, value.
#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/experiments/exposure_log.h"
#include "server/experiments/registry.h"
#include "tests/bench/machine.h"
#include "tests/server/experiments/simulations.h"

namespace vernier::bench {
namespace {

using std::chrono::steady_clock;

class Table {
 public:
  explicit Table(const std::string& path) : file_(path) { Row("row", "figure", "value"); }
  void Row(absl::string_view row, absl::string_view figure, absl::string_view value) {
    for (std::ostream* out : {static_cast<std::ostream*>(&file_), &std::cout}) {
      *out << absl::StrFormat("\"%s\",\"%s\",\"%s\"\n", row, figure, value) << std::flush;
    }
  }
  void Row(absl::string_view row, absl::string_view figure, double value) {
    Row(row, figure, absl::StrFormat("%.6g", value));
  }

 private:
  std::ofstream file_;
};

// ---- Costs ----

int64_t NanosSince(steady_clock::time_point begin) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(steady_clock::now() - begin).count();
}

// Experiments of a folder of their own, and one of them that runs.
class OwnExperiments {
 public:
  OwnExperiments() { std::filesystem::remove_all(folder_); }
  ~OwnExperiments() {
    experiments_.reset();
    std::filesystem::remove_all(folder_);
  }
  const std::string& folder() const { return folder_; }
  Experiments* get() const { return experiments_.get(); }
  void Close() { experiments_.reset(); }

  absl::Status Open() {
    auto opened = Experiments::Open({.folder = folder_, .variants = {"fp16", "nf4"}});
    if (!opened.ok()) return opened.status();
    experiments_ = *std::move(opened);
    return absl::OkStatus();
  }
  absl::Status Run(const std::string& id) {
    v1::Experiment experiment;
    experiment.set_id(id);
    for (const char* variant : {"fp16", "nf4"}) {
      v1::ExperimentArm* arm = experiment.add_arms();
      arm->set_name(variant);
      arm->set_variant(variant);
    }
    experiment.add_ramp(1);
    if (const auto put = experiments_->Put(experiment); !put.ok()) return put.status();
    v1::ControlExperimentRequest start;
    start.set_id(id);
    start.set_action(v1::ControlExperimentRequest::START);
    return experiments_->Control(start).status();
  }

 private:
  const std::string folder_ =
      (std::filesystem::temp_directory_path() / "vernier_experiments_bench").string();
  std::unique_ptr<Experiments> experiments_;
};

// What a request of the daemon costs: its arm, its record and its place in the log.
int64_t Serve(Experiments* experiments, uint64_t number) {
  const std::string session = absl::StrCat("session-", number % 5000);
  const auto begin = steady_clock::now();
  const Exposure exposure =
      experiments->Bind({.routing_key = session, .tenant = "tenant", .prompt_tokens = 200});
  const int64_t nanos = NanosSince(begin);
  // The end of a request comes through the same queue, in its own time.
  experiments->End(exposure, {.output_tokens = static_cast<int64_t>(number % 200)});
  return nanos;
}

void Report(Table& table, const std::string& row, const std::vector<int64_t>& nanos,
            int64_t dropped) {
  for (const auto& [figure, share] : {std::pair("p50 ns", 0.5), std::pair("p99 ns", 0.99),
                                      std::pair("p99.9 ns", 0.999), std::pair("max ns", 1.0)}) {
    table.Row(row, figure, static_cast<double>(testing::QuantileOf(nanos, share)));
  }
  table.Row(row, "requests", static_cast<double>(nanos.size()));
  table.Row(row, "dropped", static_cast<double>(dropped));
}

// Whether the log has every record of every request: a figure of what did not happen is none.
bool IsWhole(const std::string& folder, int64_t requests) {
  int64_t bound = 0, done = 0;
  const auto reading = ReadExposures(folder, [&](const ExposureRecord& record) {
    ++(record.kind == ExposureKind::kBound ? bound : done);
  });
  return reading.ok() && bound == requests && done == requests && reading->skipped_bytes == 0;
}

bool MeasureRequests(Table& table, int seconds) {
  constexpr int kPerSecond = 10000, kBurst = 8000;
  OwnExperiments own;
  absl::Status status = own.Open();
  if (status.ok()) status = own.Run("measured");
  if (!status.ok()) {
    std::cerr << status << "\n";
    return false;
  }
  const auto dropped = [&] { return own.get()->Figures()->log_dropped; };
  std::vector<int64_t> paced, at_once;
  uint64_t number = 1;
  const auto begin = steady_clock::now();
  for (int i = 0; i < kPerSecond * seconds; ++i) {
    const auto due = begin + std::chrono::nanoseconds(int64_t{1000000000} / kPerSecond * i);
    while (steady_clock::now() < due) continue;
    paced.push_back(Serve(own.get(), number++));
  }
  Report(table, "10,000 a second", paced, dropped());
  for (int burst = 0; burst < 10 * seconds; ++burst) {
    if (!own.get()->Flush().ok()) return false;
    for (int i = 0; i < kBurst; ++i) at_once.push_back(Serve(own.get(), number++));
  }
  const bool flushed = own.get()->Flush().ok();
  const auto fresh = steady_clock::now() + std::chrono::milliseconds(1100);
  while (steady_clock::now() < fresh) continue;  // figures are up to a second old
  const int64_t lost = dropped();
  Report(table, "8,000 at once", at_once, lost);
  own.Close();
  const bool whole = IsWhole(own.folder() + "/exposures", static_cast<int64_t>(number - 1));
  if (!flushed || (lost == 0 && !whole)) std::cerr << "the log does not have what was logged\n";
  return flushed && (lost > 0 || whole);
}

// From the end of the request that crosses a guardrail until nobody gets the arm any more.
bool MeasureRollback(Table& table) {
  constexpr int kTimes = 50;
  OwnExperiments own;
  absl::Status status = own.Open();
  std::vector<int64_t> nanos;
  for (int i = 0; i < kTimes && status.ok(); ++i) {
    status = own.Run(absl::StrCat("rollback", i));
    if (!status.ok()) break;
    Exposure canary;
    for (int unit = 0; canary.arm != 1; ++unit) {
      canary = own.get()->Bind({.routing_key = absl::StrCat("u", unit)});
    }
    const auto begin = steady_clock::now();
    own.get()->End(canary, {.code = absl::StatusCode::kInternal, .not_finite = true});
    while (own.get()->Bind({.routing_key = "u"}).experiment != nullptr) {
      std::this_thread::yield();
    }
    nanos.push_back(NanosSince(begin));
  }
  if (!status.ok()) {
    std::cerr << status << "\n";
    return false;
  }
  table.Row("rollback", "median ms", static_cast<double>(testing::QuantileOf(nanos, 0.5)) / 1e6);
  table.Row("rollback", "max ms", static_cast<double>(testing::QuantileOf(nanos, 1)) / 1e6);
  return true;
}

// Nanoseconds a record, of a million requests of a hundred thousand sessions.
template <class Add>
double NanosPerRecord(const Add& add) {
  constexpr uint64_t kRequests = 1000000, kSessions = 100000;
  const auto begin = steady_clock::now();
  for (uint64_t i = 0; i < kRequests; ++i) {
    const uint64_t unit = 1 + i * 7919 % kSessions;
    const auto arm = static_cast<uint8_t>(unit % 2);
    add(testing::Bound(i, arm, unit));
    add(testing::Done(i, arm, unit, static_cast<uint32_t>(i % 200)));
  }
  return static_cast<double>(NanosSince(begin)) / (2.0 * kRequests);
}

void MeasureRecords(Table& table) {
  Guardrails guardrails({.max_broken_rate = 0.5}, {"control", "canary"}, 0);
  table.Row("guardrails", "ns a record",
            NanosPerRecord([&](const ExposureRecord& record) { guardrails.Add(record); }));
  const int64_t before = ProcessBytes("RssAnon");
  ReportBuilder builder(testing::CanaryPlan(), testing::kExperiment, 0, {});
  table.Row("report", "ns a record",
            NanosPerRecord([&](const ExposureRecord& record) { builder.Add(record); }));
  table.Row("report", "MiB of 100,000 units",
            static_cast<double>(ProcessBytes("RssAnon") - before) / (1 << 20));
  const auto begin = steady_clock::now();
  const ExperimentReport report = builder.Build();
  table.Row("report", "ms to build", static_cast<double>(NanosSince(begin)) / 1e6);
  table.Row("report", "units", static_cast<double>(report.arms[0].units + report.arms[1].units));
}

// ---- Decisions ----

void DecideNulls(Table& table, int runs) {
  int sequence = 0, naive = 0;
  for (int run = 0; run < runs; ++run) {
    const testing::NullRun looked = testing::LookAtEqualArms(static_cast<uint64_t>(run));
    sequence += looked.by_sequence ? 1 : 0;
    naive += looked.by_naive_test ? 1 : 0;
  }
  table.Row("equal arms", "runs", runs);
  table.Row("equal arms", "decided %", 100.0 * sequence / runs);
  table.Row("equal arms", "decided by the naive test %", 100.0 * naive / runs);
}

void FindUnevenSplits(Table& table, int runs) {
  std::vector<int64_t> found;
  int false_alarms = 0;
  for (int run = 0; run < runs; ++run) {
    found.push_back(testing::UnevenAt(0.48, 100000, 100 + static_cast<uint64_t>(run)));
    false_alarms += testing::UnevenAt(0.5, 20000, 90000 + static_cast<uint64_t>(run)) <= 20000;
  }
  table.Row("split of 48/52", "runs", runs);
  table.Row("split of 48/52", "median exposures",
            static_cast<double>(testing::QuantileOf(found, 0.5)));
  table.Row("even split, 20,000 exposures", "false alarms %", 100.0 * false_alarms / runs);
}

void Revert(Table& table, int runs) {
  for (const double rate : {0.02, 0.05, 0.2}) {
    std::vector<int64_t> found;
    for (int run = 0; run < runs; ++run) {
      found.push_back(testing::RevertedAt(rate, 0, 20000, 200 + static_cast<uint64_t>(run)));
    }
    const std::string row = absl::StrFormat("%.0f %% errors", 100 * rate);
    table.Row(row, "runs", runs);
    table.Row(row, "median requests", static_cast<double>(testing::QuantileOf(found, 0.5)));
    table.Row(row, "p95 requests", static_cast<double>(testing::QuantileOf(found, 0.95)));
  }
  constexpr int64_t kRequests = 3000;
  int by_errors = 0, by_broken = 0, by_kl = 0;
  for (int run = 0; run < 10 * runs; ++run) {
    const auto seed = 7000 + static_cast<uint64_t>(run);
    by_errors += testing::RevertedAt(0.003, 0, kRequests, seed) <= kRequests ? 1 : 0;
    by_broken += testing::RevertedAt(0, 0.02, kRequests, seed) <= kRequests ? 1 : 0;
    by_kl += testing::KlFoundAt(0.03, kRequests, seed) <= kRequests ? 1 : 0;
  }
  table.Row("at the limit, 3,000 requests", "runs", 10.0 * runs);
  table.Row("at the limit, 3,000 requests", "false reverts by errors %", 10.0 * by_errors / runs);
  table.Row("at the limit, 3,000 requests", "false reverts by broken %", 10.0 * by_broken / runs);
  table.Row("at the limit, 3,000 requests", "false reverts by kl %", 10.0 * by_kl / runs);
  std::vector<int64_t> kl;
  for (int run = 0; run < runs; ++run) {
    kl.push_back(testing::KlFoundAt(0.06, 20000, 300 + static_cast<uint64_t>(run)));
  }
  table.Row("KL of twice the limit", "median answers",
            static_cast<double>(testing::QuantileOf(kl, 0.5)));
  table.Row("KL of twice the limit", "p95 answers",
            static_cast<double>(testing::QuantileOf(kl, 0.95)));
}

void DecidePairs(Table& table, int runs) {
  std::vector<int64_t> pairs;
  int inferior = 0, taken_for_none = 0;
  for (int run = 0; run < runs; ++run) {
    const auto seed = 50 + static_cast<uint64_t>(run);
    const testing::Decided decided = testing::DecideByPairs(0.02, 0.02, 20000, seed);
    pairs.push_back(decided.pairs);
    inferior += decided.verdict == NonInferiority::kInferior ? 1 : 0;
    const testing::Decided lost = testing::DecideByPairs(0.03, 0.01, 5000, 90000 + seed);
    taken_for_none += lost.verdict == NonInferiority::kNonInferior ? 1 : 0;
  }
  const std::string row = "pairs, 4 % discordant, margin 2 points";
  table.Row(row, "runs", runs);
  table.Row(row, "median pairs", static_cast<double>(testing::QuantileOf(pairs, 0.5)));
  table.Row(row, "p90 pairs", static_cast<double>(testing::QuantileOf(pairs, 0.9)));
  table.Row(row, "found inferior %", 100.0 * inferior / runs);
  table.Row(row, "pairs for a test of fixed size", PairedSampleSize(0.04, 0.02, 0.05, 0.9));
  table.Row(row, "split requests for a test of fixed size",
            2 * SplitSampleSize(0.8, 0.02, 0.05, 0.9));
  table.Row("a loss of the margin, 5,000 pairs", "taken for none %", 100.0 * taken_for_none / runs);
}

int Main(int argc, char** argv) {
  std::string rows = "all", csv = "/dev/null";
  int seconds = 30, runs = 2000;
  CLI::App app("What experiments cost a request, and how often they decide wrongly");
  app.add_option("--rows", rows, "costs, decisions, or all")
      ->check(CLI::IsMember({"costs", "decisions", "all"}));
  app.add_option("--csv", csv, "Where the rows go, beside standard output");
  app.add_option("--seconds", seconds, "Of requests at 10,000 a second")->check(CLI::Range(1, 600));
  app.add_option("--runs", runs, "Simulated experiments a row")->check(CLI::Range(10, 100000));
  CLI11_PARSE(app, argc, argv);
  Table table(csv);
  table.Row("machine", "processor", ProcessorName());
  table.Row("machine", "date", Today());
  if (rows != "decisions") {
    if (!MeasureRequests(table, seconds) || !MeasureRollback(table)) return 1;
    MeasureRecords(table);
  }
  if (rows != "costs") {
    DecideNulls(table, runs);
    FindUnevenSplits(table, runs);
    Revert(table, runs);
    DecidePairs(table, runs);
  }
  return 0;
}

}  // namespace
}  // namespace vernier::bench

int main(int argc, char** argv) { return vernier::bench::Main(argc, argv); }
