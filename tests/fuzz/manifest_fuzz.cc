// Any bytes as a manifest: refused with a reason, or what is read is written and read again as the
// same.
#include <cstddef>
#include <cstdint>

#include "engine/checkpoint/manifest.h"
#include "kernels/base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto manifest = vernier::ParseManifest(text, "manifest.json");
  if (!manifest.ok()) {
    VERNIER_CHECK(absl::IsInvalidArgument(manifest.status()));
    VERNIER_CHECK(!manifest.status().message().empty());
    return 0;
  }
  for (const vernier::ManifestFile& file : manifest->files) {
    VERNIER_CHECK(file.path.find('/') == std::string::npos && file.path != "..");
  }
  const auto again = vernier::ParseManifest(vernier::RenderManifest(*manifest), "manifest.json");
  VERNIER_CHECK(again.ok() && *again == *manifest);
  return 0;
}
