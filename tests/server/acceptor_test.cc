// Connections by hand at a listening port whose taker is the test.
#include "server/acceptor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <map>

#include "absl/strings/str_cat.h"

namespace vernier {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(30);

class AcceptorTest : public ::testing::Test {
 protected:
  void Listen(const ConnectionLimits& limits, const std::string& address = "127.0.0.1:0") {
    auto acceptor = Acceptor::Listen(address, limits);
    ASSERT_TRUE(acceptor.ok()) << acceptor.status();
    acceptor_ = *std::move(acceptor);
    acceptor_->Start([this](int descriptor) {
      SocketAddress peer;
      peer.size = sizeof(peer.storage);
      EXPECT_EQ(getpeername(descriptor, peer.get(), &peer.size), 0);
      MutexLock lock(&mutex_);
      taken_[peer.port()] = Socket(descriptor);
      told_.NotifyAll();
    });
  }
  // From 127.0.0.LAST.
  Socket ConnectFrom(uint8_t last) {
    Socket client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    SocketAddress own = std::move(Resolve("127.0.0.1:0", ResolveFor::kConnecting)->front());
    reinterpret_cast<sockaddr_in&>(own.storage).sin_addr.s_addr = htonl(0x7f000000 + last);
    EXPECT_EQ(bind(client.descriptor(), own.get(), own.size), 0);
    const SocketAddress there = Resolve(acceptor_->address(), ResolveFor::kConnecting)->front();
    EXPECT_EQ(connect(client.descriptor(), there.get(), there.size), 0);
    return client;
  }
  static int PortOf(const Socket& client) {
    SocketAddress own;
    own.size = sizeof(own.storage);
    EXPECT_EQ(getsockname(client.descriptor(), own.get(), &own.size), 0);
    return own.port();
  }
  // Waits until `client` was taken, or closed.
  bool IsTaken(const Socket& client) {
    const int port = PortOf(client);
    while (true) {
      pollfd end{client.descriptor(), POLLIN, 0};
      if (poll(&end, 1, 0) > 0) return false;
      MutexLock lock(&mutex_);
      if (taken_.count(port) > 0) return true;
      told_.WaitFor(&mutex_, std::chrono::milliseconds(1));
    }
  }
  // What gRPC does when a client has gone: nobody is told.
  void CloseTaken(const Socket& client) {
    MutexLock lock(&mutex_);
    EXPECT_EQ(taken_.erase(PortOf(client)), 1u);
  }

  Mutex mutex_;
  CondVar told_;
  std::map<int, Socket> taken_ ABSL_GUARDED_BY(mutex_);  // by the client's port
  std::unique_ptr<Acceptor> acceptor_;
};

TEST_F(AcceptorTest, OverTheLimitIsClosedAtOnceAndWhoIsThereStays) {
  Listen({.total = 2});
  const Socket first = ConnectFrom(1), second = ConnectFrom(1);
  EXPECT_TRUE(IsTaken(first));
  EXPECT_TRUE(IsTaken(second));
  EXPECT_FALSE(IsTaken(ConnectFrom(1)));
  EXPECT_FALSE(IsTaken(ConnectFrom(2)));
  EXPECT_TRUE(IsTaken(first));
  const ConnectionCounts counts = acceptor_->Counts();
  EXPECT_EQ(counts.open, 2);
  EXPECT_EQ(counts.refused_total, 2);
  EXPECT_EQ(counts.refused_peer, 0);
}

TEST_F(AcceptorTest, ThePlaceOfOneThatClosedIsAnothers) {
  Listen({.total = 1});
  for (int i = 0; i < 3; ++i) {
    Socket client = ConnectFrom(1);
    while (!IsTaken(client)) client = ConnectFrom(1);  // a look may be a few milliseconds old
    CloseTaken(client);
  }
  while (acceptor_->Counts().open > 0) {
  }
}

TEST_F(AcceptorTest, OneAddressMayHaveFewerThanAll) {
  Listen({.total = 3, .per_peer = 2});
  const Socket first = ConnectFrom(1), second = ConnectFrom(1);
  EXPECT_TRUE(IsTaken(first));
  EXPECT_TRUE(IsTaken(second));
  EXPECT_FALSE(IsTaken(ConnectFrom(1)));
  const Socket other = ConnectFrom(2);
  EXPECT_TRUE(IsTaken(other));
  EXPECT_EQ(acceptor_->Counts().refused_peer, 1);
}

TEST_F(AcceptorTest, TheDaemonsOwnLookIsTakenBeyondTheLimits) {
  Listen({.total = 1, .per_peer = 1});
  const Socket client = ConnectFrom(1);
  EXPECT_TRUE(IsTaken(client));
  const auto expect = [this](int port) { acceptor_->Expect(port); };
  const auto own = Connect(acceptor_->address(), kPatience, expect);
  ASSERT_TRUE(own.ok()) << own.status();
  EXPECT_TRUE(IsTaken(*own));
  EXPECT_FALSE(IsTaken(ConnectFrom(1)));
}

TEST_F(AcceptorTest, F23AcceptsAgainAfterDescriptorsRanOut) {
  Listen({});
  const Socket first = ConnectFrom(1);
  EXPECT_TRUE(IsTaken(first));
  const Socket second(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const SocketAddress there = Resolve(acceptor_->address(), ResolveFor::kConnecting)->front();
  rlimit whole{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &whole), 0);
  rlimit none = whole;
  none.rlim_cur = 3;  // poll(2) wants at least as many as it looks at
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  // It waits in the port's queue, and whoever looks meanwhile finds no answer.
  EXPECT_EQ(connect(second.descriptor(), there.get(), there.size), 0);
  pollfd answer{second.descriptor(), POLLIN, 0};
  EXPECT_EQ(poll(&answer, 1, 50), 0);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &whole), 0);
  EXPECT_TRUE(IsTaken(second));
}

TEST_F(AcceptorTest, ClosedItRefusesAndWhatWasTakenLives) {
  Listen({});
  const Socket client = ConnectFrom(1);
  EXPECT_TRUE(IsTaken(client));
  acceptor_->Close();
  acceptor_->Close();
  EXPECT_EQ(Connect(acceptor_->address(), kPatience, nullptr).status().code(),
            absl::StatusCode::kUnavailable);
  MutexLock lock(&mutex_);
  EXPECT_EQ(send(taken_.begin()->second.descriptor(), "x", 1, MSG_NOSIGNAL), 1);
}

TEST_F(AcceptorTest, OneConnectionIsCutByTheNameThatGrpcHasForIt) {
  Listen({});
  const Socket client = ConnectFrom(1), other = ConnectFrom(1);
  EXPECT_TRUE(IsTaken(client));
  EXPECT_TRUE(IsTaken(other));
  acceptor_->Cut(absl::StrCat("ipv4:127.0.0.1:", PortOf(client)));
  acceptor_->Cut("unix:");
  char byte = 0;
  EXPECT_EQ(recv(client.descriptor(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNRESET);
  EXPECT_TRUE(IsTaken(other));
  EXPECT_EQ(acceptor_->Counts().cut, 1);
}

TEST_F(AcceptorTest, AClientThatIsCutWithAFullWindowIsToldAtOnce) {
  Listen({});
  const Socket client = ConnectFrom(1);
  EXPECT_TRUE(IsTaken(client));
  const std::string much(1 << 20, 'x');  // nobody reads it
  while (send(client.descriptor(), much.data(), much.size(), MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
  }
  acceptor_->Cut(absl::StrCat("ipv4:127.0.0.1:", PortOf(client)));
  pollfd told{client.descriptor(), POLLOUT, 0};
  EXPECT_EQ(poll(&told, 1, 10000), 1);
  EXPECT_TRUE(told.revents & POLLERR);
}

TEST_F(AcceptorTest, HangingUpEndsWhatWeSendAndWaitsForTheOther) {
  Listen({});
  Socket client = ConnectFrom(1);
  EXPECT_TRUE(IsTaken(client));
  acceptor_->Close();
  std::thread hanging_up([this] { acceptor_->HangUp(kPatience); });
  char byte = 0;
  EXPECT_EQ(recv(client.descriptor(), &byte, 1, 0), 0);
  EXPECT_EQ(send(client.descriptor(), "x", 1, MSG_NOSIGNAL), 1) << "its half is open";
  client = Socket();
  hanging_up.join();
  acceptor_->HangUp(absl::ZeroDuration());
}

TEST_F(AcceptorTest, EveryAddressIsOfBothFamilies) {
  for (const char* any : {"0.0.0.0:0", "[::]:0"}) {
    Listen({}, any);
    const std::string port = acceptor_->address().substr(acceptor_->address().rfind(':'));
    const auto four = Connect("127.0.0.1" + port, kPatience, nullptr);
    ASSERT_TRUE(four.ok()) << four.status();
    EXPECT_TRUE(IsTaken(*four));
    const Socket probe(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    SocketAddress loopback = Resolve("[::1]:0", ResolveFor::kConnecting)->front();
    if (bind(probe.descriptor(), loopback.get(), loopback.size) != 0) continue;  // no IPv6 here
    const auto six = Connect("[::1]" + port, kPatience, nullptr);
    ASSERT_TRUE(six.ok()) << six.status();
    EXPECT_TRUE(IsTaken(*six));
  }
}

TEST_F(AcceptorTest, AnAddressInUseOrNotOursIsUnavailable) {
  Listen({});
  for (const std::string& bad :
       {acceptor_->address(), std::string("192.0.2.1:0"), std::string("no-such-host.invalid:0")}) {
    EXPECT_EQ(Acceptor::Listen(bad, {}).status().code(), absl::StatusCode::kUnavailable) << bad;
  }
}

}  // namespace
}  // namespace vernier
