// The HTTP listener: GET /metrics and /healthz, one event loop, silent peers cut off.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/page_renderer.h"

namespace vernier {

struct HttpOptions {
  std::string listen;                                // HOST:PORT, port 0 picks one
  int max_connections = 256;                         // more are closed at once
  absl::Duration header_timeout = absl::Seconds(1);  // from its first byte, or from connecting
  absl::Duration idle_timeout = absl::Seconds(60);   // between two requests of a connection
  absl::Duration write_timeout = absl::Seconds(5);
  PageAges page_ages;
};

// The page, for a port that has `connections` open ones.
using RenderFunction = std::function<std::string(PageFormat format, int64_t connections)>;

class HttpServer {
 public:
  // `render` runs on a thread of its own, never on the event loop; `ready` must not block.
  // UNAVAILABLE when the address cannot be bound, INVALID_ARGUMENT when it is none.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const HttpOptions& options,
                                                           RenderFunction render,
                                                           std::function<bool()> ready);
  virtual ~HttpServer() = default;  // closes everything
  virtual std::string address() const = 0;
};

}  // namespace vernier
