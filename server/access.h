// Who may call what: bearer keys, each with the services that it opens.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vernier {

struct AccessKey {
  std::string name;                   // for people; never sent to clients
  std::string sha256;                 // of the key's bytes: 64 lower-case hex digits
  std::vector<std::string> services;  // as in the proto, without the package: "Inference"
  std::string tenant;                 // not empty: calls with this key are this tenant's
};

// Every service of the proto that a key can open.
const std::vector<std::string>& ServiceNames();

// Immutable, any thread.
class AccessPolicy {
 public:
  explicit AccessPolicy(std::vector<AccessKey> keys) : keys_(std::move(keys)) {}

  // Without keys everything is open; with one, whatever no key opens is closed.
  bool open() const { return keys_.empty(); }

  // The tenant that the key decides, "" when it leaves that to the client. UNAUTHENTICATED without
  // a known key, PERMISSION_DENIED when the key does not open `service`. `authorization` is the
  // metadata's value, "Bearer KEY". Takes as long for each key, so that time tells nothing of them.
  absl::StatusOr<std::string> Check(absl::string_view service,
                                    absl::string_view authorization) const;

 private:
  const std::vector<AccessKey> keys_;
};

}  // namespace vernier
