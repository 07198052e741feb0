#include "server/process_stats.h"

#include <dirent.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace vernier {
namespace {

// Calls `use` with each open descriptor, but for the one that it takes to list them.
template <typename Use>
void ForEachDescriptor(const Use& use) {
  DIR* folder = opendir("/proc/self/fd");
  if (folder == nullptr) return;
  while (const dirent* entry = readdir(folder)) {
    int descriptor = -1;
    if (absl::SimpleAtoi(entry->d_name, &descriptor) && descriptor != dirfd(folder)) {
      use(descriptor);
    }
  }
  closedir(folder);
}

int64_t CountOpenDescriptors() {
  int64_t count = 0;
  ForEachDescriptor([&](int) { ++count; });
  return count;
}

// The port of a socket's own end; -1 when it is none or not of the internet.
int LocalPort(int descriptor) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &size) != 0) return -1;
  if (address.ss_family == AF_INET) {
    return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
  }
  if (address.ss_family == AF_INET6) {
    return ntohs(reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
  }
  return -1;
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

int64_t CountConnectionsNow(int port) {
  int64_t count = 0;
  ForEachDescriptor([&](int descriptor) {
    sockaddr_storage peer{};
    socklen_t size = sizeof(peer);
    if (LocalPort(descriptor) != port) return;
    if (getpeername(descriptor, reinterpret_cast<sockaddr*>(&peer), &size) == 0) ++count;
  });
  return count;
}

}  // namespace

ProcessStats ReadProcessStats() {
  thread_local Recent<ProcessStats> recent;
  return recent.Get(ReadStatsNow);
}

int64_t EstablishedConnections(int port) {
  thread_local std::map<int, Recent<int64_t>> recent;
  return recent[port].Get([port] { return CountConnectionsNow(port); });
}

int64_t ResidentAnonymousBytes() {
  int64_t bytes = 0;
  ForEachStatusLine([&](const std::string& name, int64_t number) {
    if (name == "RssAnon") bytes = number << 10;
  });
  return bytes;
}

}  // namespace vernier
