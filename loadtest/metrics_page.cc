#include "loadtest/metrics_page.h"

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace vernier::loadtest {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;
using boost::asio::ip::tcp;

constexpr auto kTimeout = std::chrono::seconds(1);
constexpr size_t kMaxPageBytes = 16 << 20;

struct Gauge {
  const char* name;
  double TimelinePoint::*member;
};
constexpr Gauge kGauges[] = {
    {"vernier_pod_requests_waiting", &TimelinePoint::waiting},
    {"vernier_pod_requests_running", &TimelinePoint::running},
    {"vernier_pod_kv_cache_usage_ratio", &TimelinePoint::kv_usage},
    {"process_resident_memory_bytes", &TimelinePoint::resident_bytes},
    {"process_open_fds", &TimelinePoint::open_files},
    {"process_threads", &TimelinePoint::threads},
};

// One GET, step after step; the loop is left when it is done or out of time.
struct Fetch {
  explicit Fetch(boost::asio::io_context* loop) : stream(*loop) {
    parser.body_limit(kMaxPageBytes);
  }

  void Run(const tcp::resolver::results_type& where) {
    stream.expires_after(kTimeout);
    stream.async_connect(where, [this](beast::error_code failed, const tcp::endpoint&) {
      if (!Take(failed)) return;
      http::async_write(stream, request, [this](beast::error_code broken, size_t) {
        if (!Take(broken)) return;
        http::async_read(stream, buffer, parser,
                         [this](beast::error_code end, size_t) { Take(end); });
      });
    });
  }
  bool Take(beast::error_code code) {
    error = code;
    return !code;
  }

  beast::tcp_stream stream;
  beast::flat_buffer buffer;
  http::request<http::empty_body> request{http::verb::get, "/metrics", 11};
  http::response_parser<http::string_body> parser;
  beast::error_code error;
};

}  // namespace

TimelinePoint ParseMetrics(absl::string_view text, double at) {
  TimelinePoint point;
  point.at = at;
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const size_t name_end = line.find_first_of("{ ");
    const size_t value = line.rfind(' ');
    if (line[0] == '#' || name_end == absl::string_view::npos) continue;
    for (const Gauge& gauge : kGauges) {
      double number = 0;
      if (line.substr(0, name_end) == gauge.name &&
          absl::SimpleAtod(line.substr(value + 1), &number)) {
        point.*gauge.member = number;
      }
    }
  }
  return point;
}

absl::StatusOr<std::string> FetchMetrics(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return absl::UnavailableError("not HOST:PORT");
  boost::asio::io_context loop;
  beast::error_code error;
  tcp::resolver resolver(loop);
  const auto where = resolver.resolve(address.substr(0, colon), address.substr(colon + 1), error);
  if (error) return absl::UnavailableError(absl::StrCat(address, ": ", error.message()));
  Fetch fetch(&loop);
  fetch.request.set(http::field::host, address);
  fetch.Run(where);
  loop.run();
  if (fetch.error)
    return absl::UnavailableError(absl::StrCat(address, ": ", fetch.error.message()));
  if (fetch.parser.get().result() != http::status::ok) {
    return absl::UnavailableError(
        absl::StrCat(address, "/metrics: HTTP ", fetch.parser.get().result_int()));
  }
  return std::move(fetch.parser.get().body());
}

}  // namespace vernier::loadtest
