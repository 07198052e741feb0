#include "server/host_memory.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace vernier {
namespace {

std::string ReadFile(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace

int64_t AvailableOfMeminfo(absl::string_view meminfo) {
  for (const absl::string_view line : absl::StrSplit(meminfo, '\n')) {
    if (!absl::StartsWith(line, "MemAvailable:")) continue;
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    int64_t kib = 0;
    if (words.size() == 3 && absl::SimpleAtoi(words[1], &kib) && kib >= 0) return kib << 10;
  }
  return -1;
}

int64_t LeftOfControlGroup(absl::string_view memory_max, absl::string_view memory_current) {
  int64_t max = 0, current = 0;
  if (!absl::SimpleAtoi(absl::StripAsciiWhitespace(memory_max), &max) ||
      !absl::SimpleAtoi(absl::StripAsciiWhitespace(memory_current), &current)) {
    return -1;  // "max", or no control group of this kind
  }
  return std::max<int64_t>(0, max - current);
}

int64_t AvailableMemoryBytes() {
  const int64_t host = AvailableOfMeminfo(ReadFile("/proc/meminfo"));
  const int64_t group = LeftOfControlGroup(ReadFile("/sys/fs/cgroup/memory.max"),
                                           ReadFile("/sys/fs/cgroup/memory.current"));
  if (host < 0 || group < 0) return std::max(host, group);
  return std::min(host, group);
}

}  // namespace vernier
