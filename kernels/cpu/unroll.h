// VERNIER_UNROLL: unroll the loop that follows completely, so that arrays of vectors stay in
// registers.
#pragma once

#if defined(__clang__)
#define VERNIER_UNROLL _Pragma("clang loop unroll(full)")
#else
#define VERNIER_UNROLL _Pragma("GCC unroll 16")
#endif
