// Conversions of many values at a time: the loops in which loading a model spends its time.
//
// One table of plain functions an instruction set, every table with the same bits in every result:
// which one runs is a matter of speed alone. This header is included by files that are compiled for
// more than the baseline, so it must stay free of functions and of the standard library's templates
// (the linker could keep a copy that an older processor cannot run).
#pragma once

#include <stdint.h>

namespace vernier {

// `n` values each; 16-bit values lie anywhere, without alignment.
struct ConvertTable {
  const char* name;  // "portable", "avx2", "avx512"
  // As F32FromF16, F32FromBF16, F16FromF32 and BF16FromF32 of tensor.h, value by value.
  void (*f32_from_f16)(const uint8_t* in, int64_t n, float* out);
  void (*f32_from_bf16)(const uint8_t* in, int64_t n, float* out);
  void (*f16_from_f32)(const float* in, int64_t n, uint8_t* out);
  void (*bf16_from_f32)(const float* in, int64_t n, uint8_t* out);
  // The largest magnitude, 0 for none. Values must not be NaN.
  float (*abs_max)(const float* in, int64_t n);
  // Whether every magnitude is at most `limit`; not so for a NaN.
  bool (*all_within)(const float* in, int64_t n, float limit);
  // codes[i] = in[i] * 127 / absmax, in double, to nearest even. absmax > 0, no magnitude above it.
  void (*int8_codes)(const float* in, int64_t n, float absmax, uint8_t* codes);
  // codes[i] = how many of the 15 ascending `thresholds` lie below in[i] * inverse.
  void (*nf4_codes)(const float* in, int64_t n, float inverse, const float* thresholds,
                    uint8_t* codes);
};

// The fastest table that this processor runs; found once. Thread-safe.
const ConvertTable& Convert();

// Only where the build has them (VERNIER_CONVERT_X86) and the processor runs them.
const ConvertTable& ConvertAvx2();
const ConvertTable& ConvertAvx512();

// Every table that this processor runs, the portable one first; `count` of them. For tests.
const ConvertTable* const* ConvertTables(int* count);

}  // namespace vernier
