#include "server/access.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <cstdint>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/checkpoint/sha256.h"

namespace vernier {

const std::vector<std::string>& ServiceNames() {
  static const auto& names = *new std::vector<std::string>{
      "Inference", "Evaluation", "Models", "ModelControl", "Experiments", "Control"};
  return names;
}

absl::StatusOr<std::string> AccessPolicy::Check(absl::string_view service,
                                                absl::string_view authorization) const {
  if (open()) return "";
  const absl::Status unknown =
      absl::UnauthenticatedError("a valid key is needed in the metadata authorization: Bearer KEY");
  constexpr absl::string_view kScheme = "bearer ";
  if (!absl::StartsWithIgnoreCase(authorization, kScheme)) return unknown;
  const auto digest = Sha256::Of(authorization.substr(kScheme.size()));
  if (!digest.ok()) return digest.status();
  const AccessKey* match = nullptr;
  for (const AccessKey& key : keys_) {
    if (key.sha256.size() == digest->size() &&
        CRYPTO_memcmp(key.sha256.data(), digest->data(), digest->size()) == 0) {
      match = &key;
    }
  }
  if (match == nullptr) return unknown;
  if (std::find(match->services.begin(), match->services.end(), service) == match->services.end()) {
    return absl::PermissionDeniedError(
        absl::StrCat("this key does not open the service ", service));
  }
  return match->tenant;
}

}  // namespace vernier
