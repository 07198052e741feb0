#include "engine/text/decoding.h"

#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "engine/text/character_tokens.h"

namespace vernier {
namespace {

absl::string_view Stripped(const DecodeStep& step, absl::string_view text) {
  for (int i = 0; i < step.left && absl::ConsumePrefix(&text, step.from); ++i) {
  }
  for (int i = 0; i < step.right && absl::ConsumeSuffix(&text, step.from); ++i) {
  }
  return text;
}

}  // namespace

std::string DecodedToken(const std::vector<DecodeStep>& steps, absl::string_view spelling) {
  std::string out(spelling);
  for (const DecodeStep& step : steps) {
    switch (step.kind) {
      case DecodeStep::Kind::kReplace:
        out = absl::StrReplaceAll(out, {{step.from, step.to}});
        break;
      case DecodeStep::Kind::kByteFallback:
        if (const int byte = ByteOfSpelling(out); byte >= 0) {
          out.assign(1, static_cast<char>(byte));
        }
        break;
      case DecodeStep::Kind::kStrip:
        out = std::string(Stripped(step, out));
        break;
    }
  }
  return out;
}

absl::string_view DecodedText(const std::vector<DecodeStep>& steps, absl::string_view text) {
  for (const DecodeStep& step : steps) text = Stripped(step, text);
  return text;
}

}  // namespace vernier
