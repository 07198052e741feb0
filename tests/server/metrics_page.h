// A scrape of the daemon's metrics port, read back.
#pragma once

#include <boost/asio.hpp>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/server/raw_http2.h"

namespace vernier::testing {

// The body of the answer to GET.
inline std::string HttpGet(const std::string& address, const std::string& target) {
  boost::asio::io_context loop;
  auto socket = ConnectSocket(&loop, address);
  boost::asio::write(
      socket, boost::asio::buffer(absl::StrCat("GET ", target, " HTTP/1.0\r\nHost: x\r\n\r\n")));
  std::string text;
  boost::system::error_code error;
  boost::asio::read(socket, boost::asio::dynamic_buffer(text), error);
  const size_t body = text.find("\r\n\r\n");
  return body == std::string::npos ? "" : text.substr(body + 4);
}

class MetricsPage {
 public:
  explicit MetricsPage(const std::string& text) {
    for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
      if (absl::StartsWith(line, "#")) continue;
      const size_t space = line.rfind(' ');
      double value = 0;
      if (space == absl::string_view::npos || !absl::SimpleAtod(line.substr(space + 1), &value)) {
        continue;
      }
      series_.emplace_back(std::string(line.substr(0, space)), value);
    }
  }
  static MetricsPage Scrape(const std::string& address) {
    return MetricsPage(HttpGet(address, "/metrics"));
  }

  // Over the series of `name` that have all of `labels` ("variant=\"nf4\"").
  double Sum(const std::string& name, const std::vector<std::string>& labels = {}) const {
    double sum = 0;
    for (const auto& [series, value] : series_) {
      bool match = series == name || absl::StartsWith(series, name + "{");
      for (const std::string& label : labels) match = match && absl::StrContains(series, label);
      if (match) sum += value;
    }
    return sum;
  }
  size_t size() const { return series_.size(); }

 private:
  std::vector<std::pair<std::string, double>> series_;
};

}  // namespace vernier::testing
