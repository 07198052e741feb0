#include "server/sockets.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

namespace vernier {
namespace {

struct Free {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};

absl::Status Failed(absl::string_view what) {
  return absl::UnavailableError(absl::StrCat(what, ": ", std::strerror(errno)));
}

}  // namespace

Socket& Socket::operator=(Socket&& other) noexcept {
  if (this != &other) {
    if (descriptor_ >= 0) close(descriptor_);
    descriptor_ = other.Release();
  }
  return *this;
}

Socket::~Socket() {
  if (descriptor_ >= 0) close(descriptor_);
}

int Socket::Release() { return std::exchange(descriptor_, -1); }

int SocketAddress::port() const {
  if (storage.ss_family == AF_INET) {
    return ntohs(reinterpret_cast<const sockaddr_in&>(storage).sin_port);
  }
  if (storage.ss_family == AF_INET6) {
    return ntohs(reinterpret_cast<const sockaddr_in6&>(storage).sin6_port);
  }
  return 0;
}

void SocketAddress::set_port(int port) {
  const uint16_t big_endian = htons(static_cast<uint16_t>(port));
  if (storage.ss_family == AF_INET) reinterpret_cast<sockaddr_in&>(storage).sin_port = big_endian;
  if (storage.ss_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6&>(storage).sin6_port = big_endian;
  }
}

std::string SocketAddress::Host() const {
  if (storage.ss_family == AF_INET6) {
    const in6_addr& host = reinterpret_cast<const sockaddr_in6&>(storage).sin6_addr;
    return std::string(reinterpret_cast<const char*>(&host), sizeof(host));
  }
  if (storage.ss_family != AF_INET) return "";
  const in_addr& host = reinterpret_cast<const sockaddr_in&>(storage).sin_addr;
  return std::string(10, '\0') + std::string(2, '\xff') +  // RFC 4291, 2.5.5.2
         std::string(reinterpret_cast<const char*>(&host), sizeof(host));
}

absl::StatusOr<std::vector<SocketAddress>> Resolve(const std::string& address, ResolveFor purpose) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat(address, " is not HOST:PORT"));
  }
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = purpose == ResolveFor::kListening ? AI_PASSIVE : 0;
  addrinfo* list = nullptr;
  const int found = getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &list);
  const std::unique_ptr<addrinfo, Free> owned(list);
  if (found != 0) return absl::UnavailableError(absl::StrCat(address, ": ", gai_strerror(found)));
  std::vector<SocketAddress> out;
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    SocketAddress& added = out.emplace_back();
    std::memcpy(&added.storage, entry->ai_addr, entry->ai_addrlen);
    added.size = entry->ai_addrlen;
  }
  return out;
}

absl::StatusOr<Socket> Connect(const std::string& address, absl::Duration timeout,
                               const Announce& announce) {
  auto found = Resolve(address, ResolveFor::kConnecting);
  if (!found.ok()) return found.status();
  const SocketAddress& peer = found->front();
  Socket socket(::socket(peer.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval limit = absl::ToTimeval(timeout);
  // Linux applies SO_SNDTIMEO to connect as well.
  if (socket.descriptor() < 0 ||
      setsockopt(socket.descriptor(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) != 0 ||
      setsockopt(socket.descriptor(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) != 0) {
    return Failed("no socket");
  }
  if (announce) {
    SocketAddress own;  // any address, any port
    own.storage.ss_family = peer.storage.ss_family;
    own.size = peer.size;
    if (bind(socket.descriptor(), own.get(), own.size) != 0 ||
        getsockname(socket.descriptor(), own.get(), &own.size) != 0) {
      return Failed("no local port");
    }
    announce(own.port());
  }
  if (connect(socket.descriptor(), peer.get(), peer.size) != 0) return Failed("connect");
  return socket;
}

}  // namespace vernier
