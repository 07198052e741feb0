#include "server/acceptor.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "kernels/base/log.h"

namespace vernier {
namespace {

constexpr std::chrono::seconds kLogPeriod{1};
constexpr std::chrono::milliseconds kLeastLookPeriod{10};
constexpr int kLookShare = 20;  // a look at all connections takes at most this part of the time
constexpr int kRetryMilliseconds = 100;
constexpr int kTurn = 64;  // connections of one listener before the next has its turn
// As gRPC sets it for its own listeners, from grpc.keepalive_timeout_ms.
constexpr unsigned kUserTimeoutMilliseconds = 10000;

// 0 for what is no open descriptor.
ino_t InodeOf(int descriptor) {
  struct stat status {};
  return fstat(descriptor, &status) == 0 ? status.st_ino : 0;
}

bool SetOption(int descriptor, int level, int name, int value) {
  return setsockopt(descriptor, level, name, &value, sizeof(value)) == 0;
}

// [::], which is of IPv4 too, for all that stands for every address; 0.0.0.0 without IPv6.
std::vector<SocketAddress> Widened(std::vector<SocketAddress> addresses) {
  if (addresses.size() != 1) return addresses;
  const std::string host = addresses[0].Host();
  if (host.find_first_not_of('\0') != std::string::npos &&
      host != std::string(10, '\0') + std::string(2, '\xff') + std::string(4, '\0')) {
    return addresses;
  }
  const Socket probe(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const bool has_ipv6 = probe.descriptor() >= 0;
  SocketAddress any;
  any.size = has_ipv6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  any.storage.ss_family = has_ipv6 ? AF_INET6 : AF_INET;
  any.set_port(addresses[0].port());
  return {any};
}

}  // namespace

absl::StatusOr<std::unique_ptr<Acceptor>> Acceptor::Listen(const std::string& address,
                                                           const ConnectionLimits& limits) {
  std::unique_ptr<Acceptor> acceptor(new Acceptor(limits));
  if (absl::Status status = acceptor->Bind(address); !status.ok()) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", address, ": ", status.message()));
  }
  return acceptor;
}

Acceptor::~Acceptor() { Close(); }

absl::Status Acceptor::Bind(const std::string& address) {
  auto found = Resolve(address, ResolveFor::kListening);
  if (!found.ok()) return found.status();
  int port = 0;
  for (SocketAddress& each : Widened(*std::move(found))) {
    if (port != 0) each.set_port(port);  // the one that the first was given
    if (absl::Status status = BindOne(each); !status.ok()) return status;
    SocketAddress bound;
    bound.size = sizeof(bound.storage);
    if (getsockname(listeners_.back().descriptor(), bound.get(), &bound.size) == 0) {
      port = bound.port();
    }
  }
  wake_ = Socket(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (port == 0 || wake_.descriptor() < 0) return absl::UnavailableError(std::strerror(errno));
  address_ = absl::StrCat(address.substr(0, address.rfind(':')), ":", port);
  return absl::OkStatus();
}

// What is set here, the connections inherit.
absl::Status Acceptor::BindOne(SocketAddress address) {
  Socket listener(socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int descriptor = listener.descriptor();
  const bool both_families = address.storage.ss_family == AF_INET6 &&
                             address.Host().find_first_not_of('\0') == std::string::npos;
  if (descriptor < 0 || !SetOption(descriptor, SOL_SOCKET, SO_REUSEADDR, 1) ||
      !SetOption(descriptor, IPPROTO_TCP, TCP_NODELAY, 1) ||
      !SetOption(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, kUserTimeoutMilliseconds) ||
      (both_families && !SetOption(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, 0)) ||
      bind(descriptor, address.get(), address.size) != 0 || listen(descriptor, SOMAXCONN) != 0) {
    return absl::UnavailableError(std::strerror(errno));
  }
  listeners_.push_back(std::move(listener));
  return absl::OkStatus();
}

void Acceptor::Start(std::function<void(int)> take) {
  take_ = std::move(take);
  thread_ = std::thread([this] { Run(); });
}

void Acceptor::Close() {
  if (thread_.joinable()) {
    const uint64_t one = 1;
    (void)!write(wake_.descriptor(), &one, sizeof(one));
    thread_.join();
  }
  listeners_.clear();
}

// The descriptor itself may be closed, and be another's, at any moment.
Socket Acceptor::CopyOf(const Taken& taken) {
  Socket copy(fcntl(taken.descriptor, F_DUPFD_CLOEXEC, 0));
  return InodeOf(copy.descriptor()) == taken.inode ? std::move(copy) : Socket();
}

void Acceptor::Cut(const std::string& peer) {
  // "ipv4:HOST:PORT", "ipv6:%5BHOST%5D:PORT"
  const std::string address = absl::StrReplaceAll(
      absl::string_view(peer).substr(peer.find(':') + 1), {{"%5B", "["}, {"%5D", "]"}});
  const auto found = Resolve(address, ResolveFor::kConnecting);
  if (!found.ok()) return;
  const std::string host = found->front().Host();
  const int port = found->front().port();
  Socket copy;
  {
    MutexLock lock(&mutex_);
    for (const Taken& taken : taken_) {
      if (taken.port == port && taken.peer == host && copy.descriptor() < 0) copy = CopyOf(taken);
    }
  }
  // "No peer" is a reset, and empties the queues. After shutdown() the kernel tells a client whose
  // window is full nothing, and it waits for a minute; close() is not ours to call.
  sockaddr nobody{};
  nobody.sa_family = AF_UNSPEC;
  if (copy.descriptor() < 0 || connect(copy.descriptor(), &nobody, sizeof(nobody)) != 0) return;
  cut_.fetch_add(1, std::memory_order_relaxed);
  Log(LogLevel::kWarning,
      absl::StrCat("a connection of ", address_, " that resets its streams was ended"));
}

void Acceptor::HangUp(absl::Duration patience) {
  std::vector<Socket> copies;
  {
    MutexLock lock(&mutex_);
    for (const Taken& taken : taken_) copies.push_back(CopyOf(taken));
  }
  std::vector<pollfd> open;
  for (const Socket& copy : copies) {
    if (shutdown(copy.descriptor(), SHUT_WR) == 0)
      open.push_back({copy.descriptor(), POLLRDHUP, 0});
  }
  const Time until = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(patience);
  while (!open.empty()) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        until - std::chrono::steady_clock::now());
    if (left.count() <= 0 || poll(open.data(), open.size(), static_cast<int>(left.count())) < 0) {
      return;
    }
    std::erase_if(open, [](const pollfd& each) { return each.revents != 0; });
  }
}

void Acceptor::Run() {
  std::vector<pollfd> ready(listeners_.size() + 1);
  ready[0] = {wake_.descriptor(), POLLIN, 0};
  for (size_t i = 0; i < listeners_.size(); ++i) {
    ready[i + 1] = {listeners_[i].descriptor(), POLLIN, 0};
  }
  bool pausing = false;
  while (true) {
    // While it pauses it still hears Close.
    const int count =
        poll(ready.data(), pausing ? 1 : ready.size(), pausing ? kRetryMilliseconds : -1);
    if (count > 0 && ready[0].revents != 0) return;
    const bool after_pause = std::exchange(pausing, false);
    for (size_t i = 1; i < ready.size(); ++i) {
      if (!after_pause && ready[i].revents == 0) continue;
      if (!AcceptFrom(ready[i].fd)) pausing = true;
    }
  }
}

bool Acceptor::AcceptFrom(int listener) {
  for (int i = 0; i < kTurn; ++i) {
    SocketAddress peer;
    peer.size = sizeof(peer.storage);
    Socket taken(accept4(listener, peer.get(), &peer.size, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (taken.descriptor() < 0) {
      if (errno == EAGAIN) return true;
      if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM) {
        continue;  // of that one connection: accept(2) has a dozen
      }
      if (const Time now = std::chrono::steady_clock::now(); now - said_ >= kLogPeriod) {
        said_ = now;
        Log(LogLevel::kError,
            absl::StrCat(address_, " takes no connection: ", std::strerror(errno)));
      }
      return false;
    }
    const Verdict verdict = Admit(taken.descriptor(), peer);
    if (verdict == Verdict::kTake) {
      take_(taken.Release());
    } else {
      Refuse(verdict);
    }
  }
  return true;
}

bool Acceptor::IsOwn(int descriptor, const SocketAddress& peer) const {
  if (peer.port() != expected_port_.load(std::memory_order_acquire)) return false;
  SocketAddress own;  // a connection from this machine has the same address at both ends
  own.size = sizeof(own.storage);
  return getsockname(descriptor, own.get(), &own.size) == 0 && own.Host() == peer.Host();
}

Acceptor::Verdict Acceptor::Admit(int descriptor, const SocketAddress& peer) {
  const bool own = IsOwn(descriptor, peer);
  std::string host = peer.Host();
  MutexLock lock(&mutex_);
  Verdict verdict = Judge(host);
  if (verdict != Verdict::kTake && std::chrono::steady_clock::now() >= look_again_) {
    DropClosed();
    verdict = Judge(host);
  }
  if (verdict != Verdict::kTake && !own) return verdict;
  of_peer_.Add(host);
  taken_.push_back({descriptor, InodeOf(descriptor), std::move(host), peer.port()});
  return Verdict::kTake;
}

Acceptor::Verdict Acceptor::Judge(const std::string& peer) const {
  if (taken_.size() >= static_cast<size_t>(limits_.total)) return Verdict::kTotal;
  const bool many = limits_.per_peer > 0 && of_peer_.Of(peer) >= limits_.per_peer;
  return many ? Verdict::kPeer : Verdict::kTake;
}

void Acceptor::Refuse(Verdict verdict) {
  const bool total = verdict == Verdict::kTotal;
  (total ? refused_total_ : refused_peer_).fetch_add(1, std::memory_order_relaxed);
  ++refused_unsaid_;
  const Time now = std::chrono::steady_clock::now();
  if (now - said_ < kLogPeriod) return;
  said_ = now;
  Log(LogLevel::kWarning,
      absl::StrCat("connections of ", address_, " closed at once: ",
                   std::exchange(refused_unsaid_, 0), total ? "; there are " : "; one client has ",
                   total ? limits_.total : limits_.per_peer, ", which is the limit"));
}

void Acceptor::DropClosed() {
  const Time began = std::chrono::steady_clock::now();
  for (size_t i = 0; i < taken_.size();) {
    Taken& taken = taken_[i];
    if (InodeOf(taken.descriptor) == taken.inode) {
      ++i;
      continue;
    }
    of_peer_.Remove(taken.peer);
    std::swap(taken, taken_.back());
    taken_.pop_back();
  }
  const Time ended = std::chrono::steady_clock::now();
  look_again_ = ended + std::max<Time::duration>(kLeastLookPeriod, kLookShare * (ended - began));
}

ConnectionCounts Acceptor::Counts() {
  ConnectionCounts counts;
  counts.refused_total = refused_total_.load(std::memory_order_relaxed);
  counts.cut = cut_.load(std::memory_order_relaxed);
  counts.refused_peer = refused_peer_.load(std::memory_order_relaxed);
  MutexLock lock(&mutex_);
  if (std::chrono::steady_clock::now() >= look_again_) DropClosed();
  counts.open = static_cast<int64_t>(taken_.size());
  return counts;
}

}  // namespace vernier
