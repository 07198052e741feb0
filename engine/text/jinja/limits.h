// What a template may use: its source and every render are bounded by these.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vernier::jinja {

struct Limits {
  size_t source_bytes = 1 << 18;
  // Brackets, blocks and conditions inside each other, as the parser reads them; also how deep one
  // expression may be. Each level is a few hundred bytes of stack.
  int nesting = 100;
  // Expressions and statements that are being evaluated, macro calls included.
  int depth = 400;
  // Expressions, statements and loop passes.
  int64_t steps = 4'000'000;
  // Bytes written, compared or searched in one render: bounds time and memory together.
  int64_t work_bytes = int64_t{64} << 20;
  size_t output_bytes = size_t{8} << 20;
};

// How deep lists and mappings may hold each other. Walks over values recurse this far.
inline constexpr int kMaxValueDepth = 64;
// As in Jinja's sandbox.
inline constexpr int64_t kMaxRange = 100'000;

}  // namespace vernier::jinja
