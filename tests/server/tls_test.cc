// TLS listeners: who gets in, what is counted, and new certificates without a restart.
#include "server/tls.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>

#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/server/grpc_fixture.h"
#include "tests/server/raw_http2.h"
#include "tests/server/test_certificates.h"

namespace vernier {
namespace {

using testing::Authority;
using testing::Certificate;
using testing::GrpcTest;
using ::testing::HasSubstr;
using testing::kGenerate;
using testing::WriteText;

// A folder with the server's files, made before the server starts.
class Files {
 public:
  Files() : folder_(::testing::TempDir() + "vernier-tls-" + std::to_string(getpid())) {
    std::filesystem::create_directories(folder_);
    Write(server_authority.Issue());
    WriteText(tls.client_ca, client_authority.certificate());
  }
  ~Files() { std::filesystem::remove_all(folder_); }

  void Write(const Certificate& certificate) const {
    // The key's first: a look between the two finds a pair that does not fit and keeps the old one.
    WriteText(tls.key, certificate.key);
    WriteText(tls.certificate, certificate.certificate);
  }

 private:
  const std::string folder_;

 public:
  const Authority server_authority, client_authority;
  TlsFiles tls{folder_ + "/tls.crt", folder_ + "/tls.key", folder_ + "/ca.crt"};
};

class TlsTest : private Files, public GrpcTest {
 protected:
  enum class Clients { kAnybody, kWithCertificate };
  explicit TlsTest(Clients clients = Clients::kWithCertificate)
      : GrpcTest(Options(clients), AccessPolicy({}), {}) {
    LogForGrpc();
  }

  GrpcOptions Options(Clients clients) const {
    GrpcOptions options;
    options.tls = tls;
    if (clients == Clients::kAnybody) options.tls.client_ca.clear();
    options.certificate_refresh = absl::Seconds(1);
    return options;
  }

  const Files& files() const { return *this; }

  // The code of a call over a new connection that trusts `authority` and shows `own`.
  int Connect(const Authority& authority, const Certificate& own) const {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = authority.certificate();
    options.pem_cert_chain = own.certificate;
    options.pem_private_key = own.key;
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return testing::RawCall(grpc::CreateCustomChannel(server_->address(),
                                                      grpc::SslCredentials(options), arguments),
                            kGenerate, GoodRequest())
        .code;
  }
  Certificate Good() const { return files().client_authority.Issue(); }
  void ExpectServesGoodClients() const { EXPECT_EQ(Connect(files().server_authority, Good()), 0); }
};

TEST_F(TlsTest, F32OnlyClientsWithACertificateOfOursGetIn) {
  ExpectServesGoodClients();
  const int64_t before = TlsFailures();
  EXPECT_EQ(Connect(files().server_authority, {}), 14) << "no certificate";
  EXPECT_EQ(Connect(files().server_authority, Authority().Issue()), 14) << "another authority";
  EXPECT_EQ(Connect(files().server_authority, files().client_authority.Issue(-60)), 14)
      << "expired";
  EXPECT_GE(TlsFailures(), before + 3);
  EXPECT_EQ(Connect(Authority(), Good()), 14) << "a server that the client does not trust";
  EXPECT_EQ(testing::RawCall(testing::Connect(server_->address()), kGenerate, GoodRequest()).code,
            14)
      << "plaintext";
  ExpectServesGoodClients();
}

TEST_F(TlsTest, F32TheHealthListenerStaysPlaintext) {
  health_.Set("liveness", true);
  EXPECT_TRUE(DialHealth(server_->health_address(), absl::Seconds(10)).ok());
}

TEST_F(TlsTest, F33NewFilesServeNewConnectionsAndOldOnesGoOn) {
  const Authority next;
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = files().server_authority.certificate();
  const Certificate own = Good();
  options.pem_cert_chain = own.certificate;
  options.pem_private_key = own.key;
  const auto old = grpc::CreateChannel(server_->address(), grpc::SslCredentials(options));
  EXPECT_EQ(testing::RawCall(old, kGenerate, GoodRequest()).code, 0);
  EXPECT_EQ(Connect(next, own), 14);
  files().Write(next.Issue());
  // Each call on the old connection succeeds, until a new connection sees the new certificate.
  while (Connect(next, own) != 0) {
    ASSERT_EQ(testing::RawCall(old, kGenerate, GoodRequest()).code, 0);
  }
  EXPECT_EQ(testing::RawCall(old, kGenerate, GoodRequest()).code, 0);
  EXPECT_EQ(Connect(files().server_authority, own), 14) << "the old certificate is gone";
}

TEST_F(TlsTest, ADialFindsThePortAliveAndLeavesNoFailureBehind) {
  const int64_t before = TlsFailures();
  EXPECT_TRUE(DialTls(server_->address(), absl::Seconds(10)).ok());
  ExpectServesGoodClients();
  EXPECT_EQ(TlsFailures(), before);
  const std::string address = server_->address();
  server_->Shutdown(absl::ZeroDuration());
  EXPECT_FALSE(DialTls(address, absl::Seconds(10)).ok());
}

TEST_F(TlsTest, F23ADialOfAPortThatTakesConnectionsAndDoesNotAnswerFails) {
  boost::asio::io_context loop;
  boost::asio::ip::tcp::acceptor silent(loop,
                                        {boost::asio::ip::make_address("127.0.0.1"), uint16_t{0}});
  const std::string address = "127.0.0.1:" + std::to_string(silent.local_endpoint().port());
  EXPECT_FALSE(DialTls(address, absl::Milliseconds(50)).ok());
}

class FewConnectionsTlsTest : private Files, public GrpcTest {
 protected:
  FewConnectionsTlsTest() : GrpcTest(Options(), AccessPolicy({}), {}) {}
  GrpcOptions Options() const {
    GrpcOptions options;
    options.tls = tls;
    options.connections = {.total = 2, .per_peer = 1};
    return options;
  }
};

TEST_F(FewConnectionsTlsTest, TheDaemonsOwnDialIsTakenBeyondTheLimits) {
  boost::asio::io_context loop;
  const auto silent = testing::ConnectSocket(&loop, server_->address());
  while (server_->Connections().open == 0) {
  }
  EXPECT_FALSE(DialTls(server_->address(), absl::Seconds(30)).ok());
  EXPECT_GE(server_->Connections().refused_peer, 1);
  const absl::Status own = server_->Dial(absl::Seconds(30));
  EXPECT_TRUE(own.ok()) << own;
}

class ServerTlsTest : public TlsTest {
 protected:
  ServerTlsTest() : TlsTest(Clients::kAnybody) {}
};

TEST_F(ServerTlsTest, WithoutClientAuthorityAnybodyWhoTrustsTheServerGetsIn) {
  EXPECT_EQ(Connect(files().server_authority, {}), 0);
  EXPECT_EQ(Connect(Authority(), {}), 14);
}

TEST(TlsFilesTest, WhatIsNoCertificateIsNamed) {
  const Files files;
  EXPECT_TRUE(CheckTlsFiles(files.tls).ok());
  TlsFiles missing = files.tls;
  missing.certificate += ".none";
  EXPECT_THAT(CheckTlsFiles(missing).ToString(), HasSubstr("tls.crt.none"));
  TlsFiles authority = files.tls;
  authority.client_ca = files.tls.key;
  EXPECT_THAT(CheckTlsFiles(authority).ToString(), HasSubstr("tls.key has no readable"));
  WriteText(files.tls.key, files.client_authority.Issue().key);
  EXPECT_THAT(CheckTlsFiles(files.tls).ToString(), HasSubstr("no readable PEM key of"));
}

}  // namespace
}  // namespace vernier
