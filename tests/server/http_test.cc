#include "server/http.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio.hpp>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace vernier {
namespace {

namespace asio = boost::asio;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class HttpTest : public ::testing::Test {
 protected:
  void Start(HttpOptions options) {
    options.listen = "127.0.0.1:0";
    auto server = HttpServer::Start(
        options,
        [this](PageFormat format, int64_t) {
          ++renders_;
          return std::string(format == PageFormat::kOpenMetrics ? "open\n# EOF\n" : "plain\n");
        },
        [this] { return ready_.load(); });
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  asio::ip::tcp::socket Connect() {
    const std::string address = server_->address();
    int port = 0;
    EXPECT_TRUE(absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port));
    asio::ip::tcp::socket socket(loop_);
    socket.connect({asio::ip::make_address("127.0.0.1"), static_cast<uint16_t>(port)});
    return socket;
  }
  // What comes until the server closes.
  static std::string ReadAll(asio::ip::tcp::socket* socket) {
    std::string text;
    boost::system::error_code error;
    asio::read(*socket, asio::dynamic_buffer(text), error);
    return text;
  }
  std::string Ask(const std::string& request) {
    asio::ip::tcp::socket socket = Connect();
    asio::write(socket, asio::buffer(request));
    return ReadAll(&socket);
  }
  std::string Get(const std::string& target, const std::string& headers = "") {
    return Ask(absl::StrCat("GET ", target, " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n",
                            headers, "\r\n"));
  }

  asio::io_context loop_;
  std::atomic<int> renders_{0};
  std::atomic<bool> ready_{true};
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpTest, MetricsAreTextUnlessOpenMetricsIsAskedFor) {
  Start({});
  const std::string plain = Get("/metrics");
  EXPECT_THAT(plain, StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(plain, HasSubstr("text/plain; version=0.0.4"));
  EXPECT_THAT(plain, HasSubstr("\r\n\r\nplain\n"));
  const std::string open =
      Get("/metrics", "Accept: application/openmetrics-text;version=1.0.0\r\n");
  EXPECT_THAT(open, HasSubstr("application/openmetrics-text; version=1.0.0"));
  EXPECT_THAT(open, HasSubstr("# EOF\n"));
}

TEST_F(HttpTest, OtherPathsAndMethodsAreRefused) {
  Start({});
  EXPECT_THAT(Get("/"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(Get("/metrics/../etc/passwd"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(Ask("DELETE /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
              StartsWith("HTTP/1.1 405"));
  EXPECT_THAT(Ask("nonsense\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(Ask(absl::StrCat("GET /", std::string(20000, 'x'), " HTTP/1.1\r\n\r\n")),
              StartsWith("HTTP/1.1 400"));
}

TEST_F(HttpTest, HealthzFollowsReadiness) {
  Start({});
  EXPECT_THAT(Get("/healthz"), StartsWith("HTTP/1.1 200"));
  ready_ = false;
  EXPECT_THAT(Get("/healthz"), StartsWith("HTTP/1.1 503"));
}

TEST_F(HttpTest, ConnectionStaysOpenForSeveralRequestsAndOnePageServesThem) {
  HttpOptions options;
  options.page_ages = {.most = absl::Hours(1), .renew = absl::Hours(1), .idle = absl::Hours(1)};
  Start(options);
  asio::ip::tcp::socket socket = Connect();
  std::string text;
  for (int i = 0; i < 3; ++i) {
    asio::write(socket, asio::buffer(std::string("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")));
    const size_t bytes = asio::read_until(socket, asio::dynamic_buffer(text), "plain\n");
    EXPECT_GT(bytes, 0u);
    text.erase(0, bytes);
  }
  EXPECT_EQ(renders_.load(), 1);
}

TEST_F(HttpTest, F25SilentPeersDoNotHoldUpAScrapeAndAreCutOff) {
  HttpOptions options;
  options.header_timeout = absl::Milliseconds(50);
  Start(options);
  std::vector<asio::ip::tcp::socket> silent;
  for (int i = 0; i < 64; ++i) silent.push_back(Connect());
  asio::write(silent[0], asio::buffer(std::string("GET /met")));
  EXPECT_THAT(Get("/metrics"), StartsWith("HTTP/1.1 200"));
  // Each read ends when the server closes: without the timeout this would hang.
  for (auto& socket : silent) EXPECT_EQ(ReadAll(&socket), "");
}

TEST_F(HttpTest, ConnectionsAboveTheCapAreClosed) {
  HttpOptions options;
  options.max_connections = 1;
  Start(options);
  asio::ip::tcp::socket first = Connect();
  asio::write(first, asio::buffer(std::string("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")));
  std::string text;
  asio::read_until(first, asio::dynamic_buffer(text), "plain\n");
  asio::ip::tcp::socket second = Connect();
  EXPECT_EQ(ReadAll(&second), "");
}

TEST_F(HttpTest, AddressInUseIsUnavailable) {
  Start({});
  HttpOptions again;
  again.listen = server_->address();
  const auto second = HttpServer::Start(again, nullptr, nullptr);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace vernier
