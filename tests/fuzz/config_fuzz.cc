// Any bytes as a configuration: read, or refused with errors that a person can be shown.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "kernels/base/check.h"
#include "server/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  vernier::ParsedConfig parsed = vernier::ParseConfig(text);
  vernier::CheckConfig(&parsed);
  for (const vernier::ConfigError& error : parsed.errors) {
    VERNIER_CHECK(error.line >= 0 && error.line <= static_cast<int64_t>(size) + 1);
    VERNIER_CHECK(!error.message.empty() && error.message.size() < 2000);
    // One line each, without control characters of the file's.
    VERNIER_CHECK(std::all_of(error.message.begin(), error.message.end(),
                              [](char c) { return c >= 0x20 && c <= 0x7e; }));
  }
  if (parsed.errors.empty()) {
    VERNIER_CHECK(!parsed.config.model_path.empty() && !parsed.config.variants.empty());
    VERNIER_CHECK(!parsed.config.EffectiveModelName().empty());
  }
  (void)vernier::FormatErrors("config.yaml", parsed.errors);
  return 0;
}
