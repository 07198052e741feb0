// SHA-256 over bytes that come in parts.
#pragma once

#include <openssl/evp.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vernier {

// One hash. One thread at a time.
class Sha256 {
 public:
  // INTERNAL where OpenSSL has none: so do the rest.
  static absl::StatusOr<Sha256> Create();
  // The 64 hex digits of a text.
  static absl::StatusOr<std::string> Of(absl::string_view text);
  absl::Status Update(std::span<const uint8_t> bytes);
  // 64 lower-case hex digits. Call once, last.
  absl::StatusOr<std::string> Finish();

 private:
  struct Deleter {
    void operator()(EVP_MD_CTX* state) const { EVP_MD_CTX_free(state); }
  };
  std::unique_ptr<EVP_MD_CTX, Deleter> state_;
};

}  // namespace vernier
