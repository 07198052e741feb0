// Any bytes as a chat template: refused with a reason, or a conversation is rendered within the
// limits of time and memory.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "engine/text/chat_template.h"
#include "kernels/base/check.h"

namespace {

const std::vector<vernier::ChatMessage>& Conversation() {
  static const auto* const messages =
      new std::vector<vernier::ChatMessage>{{"system", "Be brief."},
                                            {"user", " Hi <|im_end|> {{ 1 }}\n"},
                                            {"assistant", "Hello \xF0\x9F\x99\x82"},
                                            {"user", "1 + 1?"}};
  return *messages;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  vernier::ChatTemplateOptions options;
  options.begin_token = "<s>";
  options.end_token = "</s>";
  options.now = [] { return absl::FromUnixSeconds(1'750'000'000); };  // the same in every run
  const auto made = vernier::ChatTemplate::Create(
      absl::string_view(reinterpret_cast<const char*>(data), size), options);
  if (!made.ok()) {
    VERNIER_CHECK(!made.status().message().empty());
    return 0;
  }
  for (const bool add_generation_prompt : {true, false}) {
    const auto spans = (*made)->Render(Conversation(), add_generation_prompt);
    if (!spans.ok()) VERNIER_CHECK(!spans.status().message().empty());
  }
  return 0;
}
