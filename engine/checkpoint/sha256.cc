#include "engine/checkpoint/sha256.h"

#include "absl/strings/escaping.h"

namespace vernier {

absl::StatusOr<Sha256> Sha256::Create() {
  Sha256 hash;
  hash.state_.reset(EVP_MD_CTX_new());
  if (hash.state_ == nullptr || EVP_DigestInit_ex(hash.state_.get(), EVP_sha256(), nullptr) != 1) {
    return absl::InternalError("OpenSSL has no SHA-256");
  }
  return hash;
}

absl::StatusOr<std::string> Sha256::Of(absl::string_view text) {
  absl::StatusOr<Sha256> hash = Create();
  if (!hash.ok()) return hash.status();
  const auto* const bytes = reinterpret_cast<const uint8_t*>(text.data());
  if (absl::Status status = hash->Update({bytes, text.size()}); !status.ok()) return status;
  return hash->Finish();
}

absl::Status Sha256::Update(std::span<const uint8_t> bytes) {
  if (EVP_DigestUpdate(state_.get(), bytes.data(), bytes.size()) == 1) return absl::OkStatus();
  return absl::InternalError("OpenSSL failed to hash");
}

absl::StatusOr<std::string> Sha256::Finish() {
  uint8_t digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  if (EVP_DigestFinal_ex(state_.get(), digest, &size) != 1) {
    return absl::InternalError("OpenSSL failed to hash");
  }
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest), static_cast<size_t>(size)));
}

}  // namespace vernier
