#include "server/http.h"

#include <atomic>
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "server/short_slice.h"

namespace vernier {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using Tcp = asio::ip::tcp;

constexpr size_t kMaxHeaderBytes = 8 << 10;
constexpr const char* kPrometheusType = "text/plain; version=0.0.4; charset=utf-8";
constexpr const char* kOpenMetricsType =
    "application/openmetrics-text; version=1.0.0; charset=utf-8";

std::chrono::nanoseconds Chrono(absl::Duration duration) {
  return absl::ToChronoNanoseconds(duration);
}

// What connections share; outlives them on the event loop.
struct Shared {
  HttpOptions options;
  PageRenderer* renderer = nullptr;
  std::function<bool()> ready;
  std::atomic<int64_t> connections{0};
};

// One connection; everything of it runs on the event loop.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Tcp::socket socket, Shared* shared) : stream_(std::move(socket)), shared_(shared) {
    shared_->connections.fetch_add(1, std::memory_order_relaxed);
  }
  ~Connection() { shared_->connections.fetch_sub(1, std::memory_order_relaxed); }

  void Start() { WaitForRequest(shared_->options.header_timeout); }

 private:
  // The first bytes of a request may be long in coming, the rest of its header may not.
  void WaitForRequest(absl::Duration patience) {
    if (buffer_.size() > 0) return ReadHeader();
    stream_.expires_after(Chrono(patience));
    stream_.async_read_some(buffer_.prepare(2048),
                            [self = shared_from_this()](beast::error_code error, size_t bytes) {
                              if (error) return;
                              self->buffer_.commit(bytes);
                              self->ReadHeader();
                            });
  }

  void ReadHeader() {
    parser_.emplace();
    parser_->header_limit(kMaxHeaderBytes);
    parser_->body_limit(0);
    stream_.expires_after(Chrono(shared_->options.header_timeout));
    http::async_read(
        stream_, buffer_, *parser_, [self = shared_from_this()](beast::error_code error, size_t) {
          if (error == http::error::end_of_stream) return;
          if (error == beast::error::timeout || error == asio::error::operation_aborted) return;
          if (error) return self->Reply(http::status::bad_request, "bad request\n");
          self->Answer();
        });
  }

  void Answer() {
    const auto& request = parser_->get();
    keep_alive_ = request.keep_alive();
    const beast::string_view target = request.target();
    const std::string path(target.data(), std::min(target.find('?'), target.size()));
    if (path != "/metrics" && path != "/healthz") {
      return Reply(http::status::not_found, "not found\n");
    }
    if (request.method() != http::verb::get && request.method() != http::verb::head) {
      return Reply(http::status::method_not_allowed, "only GET\n");
    }
    if (path == "/healthz") {
      return shared_->ready() ? Reply(http::status::ok, "ok\n")
                              : Reply(http::status::service_unavailable, "not ready\n");
    }
    const beast::string_view accept = request[http::field::accept];
    const auto format = absl::StrContains(absl::string_view(accept.data(), accept.size()),
                                          "application/openmetrics-text")
                            ? PageFormat::kOpenMetrics
                            : PageFormat::kPrometheus;
    const char* const type =
        format == PageFormat::kOpenMetrics ? kOpenMetricsType : kPrometheusType;
    stream_.expires_never();  // ours to be slow
    const PageRenderer::Page ready =
        shared_->renderer->Get(format, [self = shared_from_this(), type](PageRenderer::Page page) {
          asio::post(self->stream_.get_executor(), [self, type, page = std::move(page)] {
            self->Reply(http::status::ok, *page, type);
          });
        });
    if (ready != nullptr) Reply(http::status::ok, *ready, type);
  }

  void Reply(http::status status, const std::string& body,
             const char* type = "text/plain; charset=utf-8") {
    const bool known = parser_->is_header_done();
    const bool head = known && parser_->get().method() == http::verb::head;
    reply_ = {};
    reply_.result(status);
    reply_.version(11);
    reply_.set(http::field::content_type, type);
    if (status == http::status::method_not_allowed) reply_.set(http::field::allow, "GET, HEAD");
    if (status == http::status::bad_request) keep_alive_ = false;
    reply_.keep_alive(keep_alive_);
    reply_.body() = body;
    reply_.prepare_payload();
    if (head) reply_.body().clear();
    stream_.expires_after(Chrono(shared_->options.write_timeout));
    http::async_write(stream_, reply_,
                      [self = shared_from_this()](beast::error_code error, size_t) {
                        if (error || !self->keep_alive_) return self->Close();
                        self->WaitForRequest(self->shared_->options.idle_timeout);
                      });
  }

  void Close() {
    beast::error_code ignored;
    stream_.socket().shutdown(Tcp::socket::shutdown_both, ignored);
  }

  beast::tcp_stream stream_;
  Shared* const shared_;
  beast::flat_buffer buffer_{kMaxHeaderBytes * 2};
  std::optional<http::request_parser<http::empty_body>> parser_;
  http::response<http::string_body> reply_;
  bool keep_alive_ = false;
};

class BeastServer : public HttpServer {
 public:
  BeastServer(const HttpOptions& options, RenderFunction render, std::function<bool()> ready)
      : renderer_(std::make_unique<PageRenderer>(
            [this, render = std::move(render)](PageFormat format) {
              return render(format, connections());
            },
            options.page_ages)),
        acceptor_(loop_) {
    shared_.options = options;
    shared_.renderer = renderer_.get();
    shared_.ready = std::move(ready);
  }
  ~BeastServer() override {
    loop_.stop();
    if (thread_.joinable()) thread_.join();
    renderer_.reset();  // before the loop that it posts to
  }

  absl::Status Listen(const std::string& host, uint16_t port) {
    boost::system::error_code error;
    const auto ip = asio::ip::make_address(host == "localhost" ? "127.0.0.1" : host, error);
    if (error) return absl::InvalidArgumentError(absl::StrCat("not an IP address: ", host));
    const Tcp::endpoint endpoint(ip, port);
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(Tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error) {
      return absl::UnavailableError(
          absl::StrCat("cannot listen on ", host, ":", port, ": ", error.message()));
    }
    address_ = absl::StrCat(host, ":", acceptor_.local_endpoint(error).port());
    Accept();
    thread_ = std::thread([this] { Run(); });
    return absl::OkStatus();
  }

  std::string address() const override { return address_; }

 private:
  int64_t connections() const { return shared_.connections.load(std::memory_order_relaxed); }

  void Run() {
    AskForShortSlice();  // scrapes come in the middle of steps
    while (!loop_.stopped()) {
      try {
        loop_.run();
      } catch (const std::exception& error) {  // of one connection; the others go on
        Log(LogLevel::kError, absl::StrCat("http: ", error.what()));
      }
    }
  }

  void Accept() {
    acceptor_.async_accept([this](boost::system::error_code error, Tcp::socket socket) {
      if (!error && connections() < shared_.options.max_connections) {
        std::make_shared<Connection>(std::move(socket), &shared_)->Start();
      }
      if (error == asio::error::operation_aborted) return;
      if (!error) return Accept();
      // No descriptors left, most likely: look again in a while.
      retry_.expires_after(std::chrono::milliseconds(100));
      retry_.async_wait([this](boost::system::error_code stopped) {
        if (!stopped) Accept();
      });
    });
  }

  Shared shared_;
  std::unique_ptr<PageRenderer> renderer_;
  asio::io_context loop_{1};
  Tcp::acceptor acceptor_;
  asio::steady_timer retry_{loop_};
  std::thread thread_;
  std::string address_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpOptions& options,
                                                              RenderFunction render,
                                                              std::function<bool()> ready) {
  const size_t colon = options.listen.rfind(':');
  uint32_t port = 0;
  if (colon == std::string::npos || !absl::SimpleAtoi(options.listen.substr(colon + 1), &port) ||
      port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat("not HOST:PORT: ", options.listen));
  }
  std::string host = options.listen.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  auto server = std::make_unique<BeastServer>(options, std::move(render), std::move(ready));
  if (absl::Status status = server->Listen(host, static_cast<uint16_t>(port)); !status.ok()) {
    return status;
  }
  return server;
}

}  // namespace vernier
