#include "server/self_test.h"

#include "absl/strings/str_cat.h"
#include "engine/golden.h"
#include "kernels/base/log.h"

namespace vernier {

absl::Status SelfTest(const VariantSpec& spec, int variant, Engine* engine, Model* model) {
  Variant& held = model->variants[static_cast<size_t>(variant)];
  held.failed = false;
  const GoldenTokens* const golden = GoldenOf(*model, spec);
  if (golden == nullptr) {
    if (model->integrity == Integrity::kManifest) {
      Log(LogLevel::kInfo,
          absl::StrCat("variant ", held.name, ": the manifest has no golden tokens for it"));
    }
    return absl::OkStatus();
  }
  const absl::Status drawn = CheckGolden(engine, *model, variant, *golden);
  if (drawn.ok()) {
    Log(LogLevel::kInfo, absl::StrCat("variant ", held.name, " draws the ", golden->tokens.size(),
                                      " golden tokens"));
  }
  if (!absl::IsInvalidArgument(drawn)) return drawn;
  Log(LogLevel::kError, absl::StrCat(drawn.message(), ": it is not served"));
  held.failed = true;
  const absl::Status unloaded = engine->UnloadVariant(variant, nullptr);
  return unloaded.ok() ? drawn : unloaded;
}

}  // namespace vernier
