// Log lines of the process: one JSON object a line on standard error.
//
// Log() escapes its message, so that a prompt or a file name can never forge a line. Thread-safe.
// No prompt text belongs here.
#pragma once

#include <cstdio>
#include <ctime>
#include <string>

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

// Writes {"time":...,"level":...,"event":...} with one write call; `event` is a sentence with its
// values.
inline void Log(LogLevel level, const std::string& event) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  tm utc{};
  gmtime_r(&now.tv_sec, &utc);
  char stamp[40];
  std::strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &utc);
  static constexpr const char* kNames[] = {"info", "warning", "error"};
  std::string line = "{\"time\":\"" + std::string(stamp) + "Z\",\"level\":\"" +
                     kNames[static_cast<int>(level)] + "\",\"event\":\"" + EscapeForLog(event) +
                     "\"}\n";
  std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace vernier
