// Log lines of the process: one JSON object a line on standard error.
//
// Log() escapes its message, so that a prompt or a file name can never forge a line. Thread-safe.
// No prompt text belongs here.
#pragma once

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <string>

#include "kernels/base/mutex.h"

namespace vernier {

enum class LogLevel { kInfo, kWarning, kError };

// `text` as the inside of a JSON string: quotes, backslashes and every byte below 0x20 or above
// 0x7e escaped.
inline std::string EscapeForLog(const std::string& text) {
  std::string out;
  out.reserve(text.size());
  for (const unsigned char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c < 0x20 || c > 0x7e) {
      char buffer[8];
      std::snprintf(buffer, sizeof(buffer), "\\u%04x", c);
      out += buffer;
    } else {
      out += static_cast<char>(c);
    }
  }
  return out;
}

// Lines that were given up because they could not be written at once.
inline std::atomic<int64_t> log_dropped{0};
inline int64_t LogDropped() { return log_dropped.load(std::memory_order_relaxed); }

// Writes all of `line` to `fd`, or what of it can be written without waiting: a pipe that poll()
// calls writable takes PIPE_BUF bytes (pipe(7)). False when something was left.
inline bool WriteWithoutWaiting(int fd, const std::string& line) {
  static Mutex mutex;  // two threads must not both count on the same room
  MutexLock lock(&mutex);
  for (size_t done = 0; done < line.size();) {
    pollfd ready{fd, POLLOUT, 0};
    if (poll(&ready, 1, 0) != 1 || (ready.revents & POLLOUT) == 0) return false;
    const size_t part = std::min<size_t>(line.size() - done, PIPE_BUF);
    const ssize_t written = write(fd, line.data() + done, part);
    if (written <= 0) return false;
    done += static_cast<size_t>(written);
  }
  return true;
}

// Writes {"time":...,"level":...,"event":...}; `event` is a sentence with its values. Never waits:
// a line that standard error does not take at once (full pipe, full disk, closed) is counted
// instead.
inline void Log(LogLevel level, const std::string& event) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  tm utc{};
  gmtime_r(&now.tv_sec, &utc);
  char stamp[40];
  std::strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &utc);
  static constexpr const char* kNames[] = {"info", "warning", "error"};
  const std::string line = "{\"time\":\"" + std::string(stamp) + "Z\",\"level\":\"" +
                           kNames[static_cast<int>(level)] + "\",\"event\":\"" +
                           EscapeForLog(event) + "\"}\n";
  if (!WriteWithoutWaiting(STDERR_FILENO, line)) {
    log_dropped.fetch_add(1, std::memory_order_relaxed);
  }
}

}  // namespace vernier
