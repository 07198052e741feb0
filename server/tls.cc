#include "server/tls.h"

#include <openssl/ssl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"

namespace vernier {
namespace {

struct Free {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(SSL* ssl) const { SSL_free(ssl); }
};

// The first message of a client: gRPC's servers want HTTP/2 to be offered.
std::string ClientHello() {
  const std::unique_ptr<SSL_CTX, Free> context(SSL_CTX_new(TLS_client_method()));
  const std::unique_ptr<SSL, Free> ssl(context == nullptr ? nullptr : SSL_new(context.get()));
  if (ssl == nullptr) return "";
  BIO* const in = BIO_new(BIO_s_mem());
  BIO* const out = BIO_new(BIO_s_mem());
  SSL_set_bio(ssl.get(), in, out);
  static constexpr unsigned char kHttp2[] = {2, 'h', '2'};
  SSL_set_alpn_protos(ssl.get(), kHttp2, sizeof(kHttp2));
  SSL_set_connect_state(ssl.get());
  (void)SSL_do_handshake(ssl.get());  // wants the server's answer
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(out, &bytes);
  return size > 0 ? std::string(bytes, static_cast<size_t>(size)) : "";
}

}  // namespace

absl::Status CheckTlsFiles(const TlsFiles& files) {
  const std::unique_ptr<SSL_CTX, Free> context(SSL_CTX_new(TLS_server_method()));
  if (context == nullptr) return absl::InternalError("OpenSSL has no TLS");
  if (SSL_CTX_use_certificate_chain_file(context.get(), files.certificate.c_str()) != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(files.certificate, " is no readable PEM certificate chain"));
  }
  if (SSL_CTX_use_PrivateKey_file(context.get(), files.key.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(context.get()) != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(files.key, " is no readable PEM key of ", files.certificate));
  }
  if (!files.client_ca.empty() &&
      SSL_CTX_load_verify_locations(context.get(), files.client_ca.c_str(), nullptr) != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(files.client_ca, " has no readable PEM certificate"));
  }
  return absl::OkStatus();
}

absl::Status DialTls(const std::string& address, absl::Duration timeout, const Announce& announce) {
  auto connected = Connect(address, timeout, announce);
  if (!connected.ok()) return connected.status();
  const int socket = connected->descriptor();
  const auto failed = [](absl::string_view what) {
    return absl::UnavailableError(absl::StrCat(what, ": ", std::strerror(errno)));
  };
  const std::string hello = ClientHello();
  if (hello.empty()) return absl::InternalError("OpenSSL makes no client hello");
  if (send(socket, hello.data(), hello.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(hello.size())) {
    return failed("send");
  }
  constexpr uint8_t kAlert = 21, kHandshake = 22;  // RFC 8446, 5.1
  uint8_t type = 0;
  const ssize_t got = recv(socket, &type, 1, 0);
  if (got < 0) return failed("no answer");
  if (got == 0) return absl::UnavailableError("closed without an answer");
  return type == kHandshake || type == kAlert
             ? absl::OkStatus()
             : absl::UnavailableError("what answers speaks no TLS");
}

}  // namespace vernier
