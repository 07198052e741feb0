#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/text/pattern.h"

#include <pcre2.h>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"

namespace vernier {
namespace {

constexpr size_t kMaxPatternBytes = 64 << 10;
// A pattern of a real tokenizer takes a few steps a byte, so that a 4 MiB piece stays below.
constexpr uint32_t kMatchLimit = 10'000'000;
constexpr uint32_t kDepthLimit = 100'000;
constexpr uint32_t kHeapLimitKib = 64 << 10;
constexpr size_t kJitStackBytes = 32 << 10;
constexpr size_t kJitStackMaxBytes = 1 << 20;

std::string ErrorText(int code) {
  PCRE2_UCHAR buffer[256];
  if (pcre2_get_error_message(code, buffer, sizeof(buffer)) < 0) return absl::StrCat(code);
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Pattern>> Pattern::Compile(absl::string_view source,
                                                                Syntax syntax) {
  if (source.empty() || source.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("pattern has ", source.size(), " bytes, must have 1 to ", kMaxPatternBytes));
  }
  uint32_t options = PCRE2_UTF | PCRE2_UCP;
  options |= syntax == Syntax::kLiteral ? PCRE2_LITERAL : PCRE2_NEVER_BACKSLASH_C;
  if (syntax == Syntax::kLiteral) options &= ~PCRE2_UCP;
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source.data()), source.size(),
                                   options, &error, &offset, nullptr);
  if (code == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("pattern is broken at byte ", offset, ": ", ErrorText(error)));
  }
  // Where the system forbids code made at run time, PCRE2 interprets.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  return std::shared_ptr<const Pattern>(new Pattern(code));
}

Pattern::~Pattern() { pcre2_code_free(code_); }

Matcher::Matcher(const Pattern* pattern)
    : pattern_(pattern),
      context_(pcre2_match_context_create(nullptr)),
      data_(pcre2_match_data_create(1, nullptr)),
      stack_(pcre2_jit_stack_create(kJitStackBytes, kJitStackMaxBytes, nullptr)) {
  VERNIER_CHECK(context_ != nullptr && data_ != nullptr);
  pcre2_set_match_limit(context_, kMatchLimit);
  pcre2_set_depth_limit(context_, kDepthLimit);
  pcre2_set_heap_limit(context_, kHeapLimitKib);
  if (stack_ != nullptr) pcre2_jit_stack_assign(context_, nullptr, stack_);
}

Matcher::~Matcher() {
  pcre2_match_data_free(data_);
  pcre2_match_context_free(context_);
  if (stack_ != nullptr) pcre2_jit_stack_free(stack_);
}

Matcher::Result Matcher::Find(absl::string_view text, uint32_t start, TextRange* found) {
  // One pair of offsets: a return of 0 says that groups had no room, which is no failure.
  const int result = pcre2_match(pattern_->code_, reinterpret_cast<PCRE2_SPTR>(text.data()),
                                 text.size(), start, PCRE2_NO_UTF_CHECK, data_, context_);
  if (result == PCRE2_ERROR_NOMATCH) return Result::kNone;
  if (result < 0) return Result::kLimit;
  const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(data_);
  // \K could put the start behind the end.
  if (offsets[0] > offsets[1] || offsets[0] < start) return Result::kLimit;
  *found = {static_cast<uint32_t>(offsets[0]), static_cast<uint32_t>(offsets[1])};
  return Result::kFound;
}

}  // namespace vernier
