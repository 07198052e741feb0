// TCP sockets by hand: addresses, and a connection of our own to a port.
#pragma once

#include <sys/socket.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace vernier {

// A descriptor that is closed with it.
class Socket {
 public:
  explicit Socket(int descriptor = -1) : descriptor_(descriptor) {}
  Socket(Socket&& other) noexcept : descriptor_(other.Release()) {}
  Socket& operator=(Socket&& other) noexcept;
  ~Socket();

  int descriptor() const { return descriptor_; }  // -1: none
  int Release();                                  // the caller's from here on

 private:
  int descriptor_;
};

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  int port() const;  // 0: not of the internet
  void set_port(int port);
  // Without the port, IPv4 as IPv6 knows it: 16 bytes. "" for what is not of the internet.
  std::string Host() const;
};

enum class ResolveFor { kConnecting, kListening };
// The addresses of HOST:PORT, IPv6 as [HOST]:PORT. INVALID_ARGUMENT, UNAVAILABLE with what the
// resolver says.
absl::StatusOr<std::vector<SocketAddress>> Resolve(const std::string& address, ResolveFor purpose);

// Hears which local port a connection will have, before it is made.
using Announce = std::function<void(int port)>;

// Connects to `address`, a HOST:PORT; sending, receiving and connecting end after `timeout`.
// UNAVAILABLE.
absl::StatusOr<Socket> Connect(const std::string& address, absl::Duration timeout,
                               const Announce& announce);

}  // namespace vernier
