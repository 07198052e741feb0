// What a benchmark prints beside its figures: the processor, its read bandwidth, this process's
// memory.
//
// Linux. One thread, but for the threads that ReadBandwidth starts.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <fstream>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace vernier::bench {

inline double SecondsNow() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The value after `key:` in a file of "key: value" lines; empty when there is none.
inline std::string FieldOf(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    absl::string_view rest = line;
    if (!absl::ConsumePrefix(&rest, key)) continue;
    const size_t start = rest.find_first_not_of(" \t:");
    return start == absl::string_view::npos ? "" : std::string(rest.substr(start));
  }
  return "";
}

inline std::string ProcessorName() { return FieldOf("/proc/cpuinfo", "model name"); }

// A field of /proc/self/status that is given in kB: "RssAnon", "VmHWM". 0 when it is not there.
inline int64_t ProcessBytes(const std::string& key) {
  const std::string value = FieldOf("/proc/self/status", key);
  int64_t kilobytes = 0;
  if (!absl::SimpleAtoi(absl::string_view(value).substr(0, value.find(' ')), &kilobytes)) return 0;
  return kilobytes * 1024;
}

// "2026-01-31", UTC.
inline std::string Today() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[16];
  std::strftime(text, sizeof(text), "%Y-%m-%d", &utc);
  return text;
}

struct Timing {
  double median_seconds = 0;
  double best_seconds = 0;    // what an undisturbed machine would have taken, or nearly
  double spread_percent = 0;  // (90th - 10th percentile) / median
};

inline Timing Summarize(std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  const size_t last = seconds.size() - 1;
  const double median = seconds[last / 2];
  return {median, seconds.front(), 100 * (seconds[last - last / 10] - seconds[last / 10]) / median};
}

// Bytes per second that `threads` threads read together from a buffer far larger than the caches:
// the best of several passes, since it is a limit.
inline double ReadBandwidth(int threads) {
  constexpr int64_t kBytes = int64_t{512} << 20;
  constexpr int kPasses = 7;
  const std::vector<uint64_t> buffer(kBytes / sizeof(uint64_t), 1);
  const size_t share = buffer.size() / threads;
  std::vector<uint64_t> sums(threads);
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const double start = SecondsNow();
    std::vector<std::thread> workers;
    for (int t = 0; t < threads; ++t) {
      workers.emplace_back([&, t] {
        // Independent sums, which the compiler makes vectors of.
        uint64_t lanes[32] = {};
        const uint64_t* p = buffer.data() + t * share;
        for (size_t i = 0; i + 32 <= share; i += 32) {
          for (int lane = 0; lane < 32; ++lane) lanes[lane] += p[i + lane];
        }
        sums[t] = std::accumulate(lanes, lanes + 32, uint64_t{0});
      });
    }
    for (std::thread& worker : workers) worker.join();
    best = std::max(best, static_cast<double>(kBytes) / (SecondsNow() - start));
  }
  // The sums are used, so that the reads are made.
  return std::accumulate(sums.begin(), sums.end(), uint64_t{0}) > 0 ? best : 0;
}

}  // namespace vernier::bench
