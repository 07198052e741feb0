// VERNIER_UNROLL: unroll the loop that follows completely, so that arrays of vectors stay in
// registers. Not by clang where a sanitizer checks each access: there it made one file take a
// quarter of an hour to compile.
#pragma once

#include "kernels/base/sanitizer.h"

#if defined(__clang__) && VERNIER_SANITIZED
#define VERNIER_UNROLL
#elif defined(__clang__)
#define VERNIER_UNROLL _Pragma("clang loop unroll(full)")
#else
#define VERNIER_UNROLL _Pragma("GCC unroll 16")
#endif
