#include "loadtest/commands.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "loadtest/client.h"
#include "loadtest/exit_code.h"
#include "loadtest/report/chart.h"
#include "loadtest/report/report.h"
#include "loadtest/runner.h"

namespace vernier::loadtest {
namespace {

constexpr size_t kErrorsShown = 5;

int Fail(int code, absl::string_view message, const Streams& streams) {
  *streams.err << "vernier-loadtest: " << message << std::endl;
  return code;
}

std::string Processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) == 0)
      return line.substr(std::min(line.find(": ") + 2, line.size()));
  }
  return "unknown processor";
}

void ShowProgress(const std::string& label, const Progress& now, const Streams& streams) {
  *streams.err << absl::StrFormat(
                      "%s%s: %5.0f s  sent %d  alive %d  done %d  refused %d  other %d  TTFT p50 "
                      "%s ms%s",
                      streams.err_is_terminal ? "\r\x1b[K" : "", label, now.at, now.sent, now.alive,
                      now.completed, now.refused, now.other, ShortNumber(now.first_token_p50 * 1e3),
                      streams.err_is_terminal ? "" : "\n")
               << std::flush;
}

void ShowErrors(const RunResult& result, const Streams& streams) {
  size_t shown = 0;
  for (const auto& [error, count] : result.errors) {
    if (++shown > kErrorsShown) break;
    *streams.err << "  " << count << " x " << error << "\n";
  }
}

std::vector<std::string> NamesOf(const std::vector<Share>& shares) {
  std::vector<std::string> names;
  for (const Share& share : shares) names.push_back(share.name);
  return names;
}

// The trace's times, at the speed that makes `rate`; those within the seconds of the run.
std::vector<double> ReplayTimes(const Trace& trace, const ArrivalOptions& arrivals) {
  const double speed = arrivals.rate / trace.MeanRate();
  std::vector<double> times;
  for (const TraceRow& row : trace.rows) {
    const double at = row.at / speed;
    const bool enough =
        arrivals.max_requests > 0 && static_cast<int64_t>(times.size()) >= arrivals.max_requests;
    if (at >= arrivals.seconds || enough) break;
    times.push_back(at);
  }
  return times;
}

class LoadTest {
 public:
  LoadTest(const CommandLine& command, const std::atomic<bool>& stop, const Streams& streams)
      : command_(command), stop_(stop), streams_(streams) {}

  absl::Status Connect() {
    auto client = Client::Connect(command_.server);
    if (!client.ok()) return client.status();
    client_ = *std::move(client);
    const ServerFacts& facts = client_->facts();
    for (const Share& variant : command_.workload.variants) {
      if (std::find(facts.variants.begin(), facts.variants.end(), variant.name) ==
          facts.variants.end()) {
        return absl::InvalidArgumentError(
            absl::StrCat("the server has no variant \"", variant.name, "\""));
      }
    }
    report_.date = absl::FormatTime("%Y-%m-%d", absl::Now(), absl::UTCTimeZone());
    report_.processor = Processor();
    report_.server = facts.description;
    report_.slo = command_.slo;
    report_.attainment = command_.sweep.attainment;
    return absl::OkStatus();
  }

  // One run at `rate`, or as the options say where it is 0; its share within the SLO.
  double RunOnce(const std::string& label, double rate) {
    RunOptions options = command_.run;
    WorkloadOptions what = command_.workload;
    what.max_context = client_->facts().max_context;
    what.vocab = client_->facts().vocab;
    options.arrivals.seed = what.seed;
    if (rate > 0) options.arrivals.rate = rate;
    Workload workload(what);
    std::vector<double> arrivals;
    if (options.replay) {
      arrivals = ReplayTimes(*what.lengths, options.arrivals);
    } else if (options.concurrency == 0) {
      arrivals = Arrivals(options.arrivals);
    }
    const RunResult result = Run(options, arrivals, command_.server.metrics, &workload,
                                 client_.get(), stop_, [&](const Progress& now) {
                                   if (!command_.output.quiet) ShowProgress(label, now, streams_);
                                 });
    if (!command_.output.quiet && streams_.err_is_terminal) *streams_.err << "\n";
    ShowErrors(result, streams_);
    report_.workload = workload.Describe();
    if (workload.cut() > 0) absl::StrAppend(&report_.workload, "; ", workload.cut(), " cut to it");
    report_.runs.push_back(BuildRun({.label = label,
                                     .offered = options.concurrency > 0 ? 0 : options.arrivals.rate,
                                     .window = result.window,
                                     .slo = command_.slo,
                                     .tenants = NamesOf(what.tenants),
                                     .variants = NamesOf(what.variants)},
                                    result.outcomes, result.timeline));
    return report_.runs.back().all.Attained();
  }

  void RunSweep() {
    std::vector<SweepPoint> points;
    const auto run = [&](double rate) {
      points.push_back({rate, RunOnce(absl::StrCat("rate ", ShortNumber(rate)), rate)});
    };
    for (size_t i = 0; i < command_.rates.size() && !stop_; ++i) run(command_.rates[i]);
    if (!command_.rates.empty()) return;
    for (auto rate = NextRate(points, command_.sweep); rate.has_value() && !stop_;
         rate = NextRate(points, command_.sweep)) {
      run(*rate);
    }
    std::sort(report_.runs.begin(), report_.runs.end(),
              [](const RunReport& a, const RunReport& b) { return a.offered < b.offered; });
  }

  const Report& report() const { return report_; }

 private:
  const CommandLine& command_;
  const std::atomic<bool>& stop_;
  const Streams& streams_;
  std::unique_ptr<Client> client_;
  Report report_;
};

// Name of the first file that cannot be written; before hours are spent on what it is to hold.
std::string FirstUnwritable(const OutputOptions& output) {
  for (const std::string* path : {&output.json, &output.csv, &output.html}) {
    if (!path->empty() && !std::ofstream(*path, std::ios::app)) return *path;
  }
  return "";
}

std::string WriteReports(const Report& report, const OutputOptions& output) {
  const std::pair<const std::string*, std::string (*)(const Report&)> files[] = {
      {&output.json, ToJson}, {&output.csv, ToCsv}, {&output.html, ToHtml}};
  for (const auto& [path, render] : files) {
    if (path->empty()) continue;
    std::ofstream file(*path, std::ios::trunc);
    file << render(report);
    file.close();
    if (!file) return *path;
  }
  return "";
}

absl::StatusOr<std::string> ReadText(const std::string& path) {
  std::ifstream file(path);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file.is_open() || file.bad())
    return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  return text;
}

int Compare(const CommandLine& command, const Streams& streams) {
  const auto before = ReadText(command.before), after = ReadText(command.after);
  for (const auto* text : {&before, &after}) {
    if (!text->ok()) return Fail(kExitBadInput, text->status().message(), streams);
  }
  const auto table = CompareReports(*before, *after);
  if (!table.ok()) return Fail(kExitBadInput, table.status().message(), streams);
  *streams.out << *table;
  return kExitGood;
}

}  // namespace

int Execute(const CommandLine& command, const std::atomic<bool>& stop, const Streams& streams) {
  if (command.verb == Verb::kCompare) return Compare(command, streams);
  if (const std::string path = FirstUnwritable(command.output); !path.empty()) {
    return Fail(kExitCannotWrite, absl::StrCat(path, ": cannot be written"), streams);
  }
  LoadTest test(command, stop, streams);
  if (absl::Status status = test.Connect(); !status.ok()) {
    return Fail(absl::IsUnavailable(status) ? kExitUnavailable : kExitUsage, status.message(),
                streams);
  }
  if (command.verb == Verb::kSweep) {
    test.RunSweep();
  } else {
    const RunOptions& run = command.run;
    test.RunOnce(run.concurrency > 0 ? absl::StrCat("concurrency ", run.concurrency)
                                     : absl::StrCat("rate ", ShortNumber(run.arrivals.rate)),
                 0);
  }
  *streams.out << ToText(test.report()) << std::flush;
  if (const std::string path = WriteReports(test.report(), command.output); !path.empty()) {
    return Fail(kExitCannotWrite, absl::StrCat(path, ": cannot be written"), streams);
  }
  return kExitGood;
}

}  // namespace vernier::loadtest
