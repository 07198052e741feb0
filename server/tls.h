// The certificate files of a listener, and a look at a TLS port from outside.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/sockets.h"

namespace vernier {

// PEM files, read again while the daemon runs.
struct TlsFiles {
  std::string certificate;  // the chain, the server's own first; empty: no TLS
  std::string key;
  std::string client_ca;  // not empty: clients must show a certificate of one of these (mTLS)

  bool enabled() const { return !certificate.empty(); }
};

// INVALID_ARGUMENT naming the file that cannot be read, is no PEM or does not fit the others.
absl::Status CheckTlsFiles(const TlsFiles& files);

// Connects to `address` (HOST:PORT) and begins a TLS handshake: OK once the server has said its
// first word, whatever it would think of this client. Needs no certificate, and leaves no failure
// behind.
absl::Status DialTls(const std::string& address, absl::Duration timeout,
                     const Announce& announce = nullptr);

}  // namespace vernier
