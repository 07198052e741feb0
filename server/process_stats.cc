#include "server/process_stats.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace vernier {
namespace {

// But for the one that it takes to list them.
int64_t CountOpenDescriptors() {
  DIR* folder = opendir("/proc/self/fd");
  if (folder == nullptr) return 0;
  int64_t count = 0;
  while (const dirent* entry = readdir(folder)) {
    int descriptor = -1;
    if (absl::SimpleAtoi(entry->d_name, &descriptor) && descriptor != dirfd(folder)) ++count;
  }
  closedir(folder);
  return count;
}

// Boot time plus the start in clock ticks since then (field 22 of /proc/self/stat, proc(5)).
double StartUnixSeconds() {
  std::ifstream stat("/proc/self/stat");
  std::string text((std::istreambuf_iterator<char>(stat)), std::istreambuf_iterator<char>());
  const size_t end_of_name = text.rfind(')');
  if (end_of_name == std::string::npos) return 0;
  const std::vector<std::string> fields =
      absl::StrSplit(absl::string_view(text).substr(end_of_name + 1), ' ', absl::SkipEmpty());
  double ticks = 0, boot = 0;
  if (fields.size() < 20 || !absl::SimpleAtod(fields[19], &ticks)) return 0;
  std::ifstream system("/proc/stat");
  for (std::string line; std::getline(system, line);) {
    if (absl::StartsWith(line, "btime ") && absl::SimpleAtod(line.substr(6), &boot)) break;
  }
  return boot + ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

// Calls `use` with each "Name:" and number of /proc/self/status.
template <typename Use>
void ForEachStatusLine(const Use& use) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    int64_t number = 0;
    std::istringstream(line.substr(colon + 1)) >> number;
    use(line.substr(0, colon), number);
  }
}

// A value that is read again when it is a second old. One thread.
template <typename Value>
class Recent {
 public:
  template <typename Read>
  const Value& Get(const Read& read) {
    const auto now = std::chrono::steady_clock::now();
    if (!value_.has_value() || now - read_at_ >= std::chrono::seconds(1)) {
      value_ = read();
      read_at_ = now;
    }
    return *value_;
  }

 private:
  std::optional<Value> value_;
  std::chrono::steady_clock::time_point read_at_;
};

ProcessStats ReadStatsNow() {
  static const double start = StartUnixSeconds();
  ProcessStats stats;
  stats.start_unix_seconds = start;
  ForEachStatusLine([&](const std::string& name, int64_t number) {
    if (name == "VmSize") stats.virtual_bytes = number << 10;
    if (name == "VmRSS") stats.resident_bytes = number << 10;
    if (name == "RssAnon") stats.resident_anonymous_bytes = number << 10;
    if (name == "Threads") stats.threads = number;
  });
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) == 0) {
    const auto seconds = [](const timeval& t) {
      return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
    };
    stats.cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
  }
  stats.open_fds = CountOpenDescriptors();
  return stats;
}

}  // namespace

ProcessStats ReadProcessStats() {
  thread_local Recent<ProcessStats> recent;
  return recent.Get(ReadStatsNow);
}

int64_t ResidentAnonymousBytes() {
  int64_t bytes = 0;
  ForEachStatusLine([&](const std::string& name, int64_t number) {
    if (name == "RssAnon") bytes = number << 10;
  });
  return bytes;
}

}  // namespace vernier
