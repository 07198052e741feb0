// The backends that tests of the door run, and what each promises of its rounding.
//
// A backend joins with one row here; those that this build or processor lacks are left out.
#pragma once

#include <memory>
#include <ostream>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/make_backend.h"
#include "kernels/quantize.h"

namespace vernier::testing {

// Unit roundoffs: the largest relative error of one rounding.
struct Precision {
  double accumulate = 0x1p-24;  // of sums and of single operations
  double activation = 0;        // of storing x, q, a and h, where that is not fp32
  double weight = 0;            // of decoding a weight, beyond Dequantize's
  double product = 0;           // of the x that a product multiplies
  double left_out = 0;          // of products of small parts, where bf16 cannot hold the weight
  // Of the x that an int8 or NF4 product multiplies in whole numbers, of its row's largest. Such a
  // product takes NF4's values as Nf4AsWholeNumbers gives them. 0: there are none.
  double digit = 0;
  // A derived bound may be this much of the values' root mean square before a test of it says
  // nothing.
  double largest_bound = 0.125;
  // Worst-case bounds of 16-bit arithmetic outgrow the values. Where they do, the root mean square
  // of the errors, which come from independent roundings, is held to this much of that of the
  // values: a wrong scale or slot moves it by about all of it. 0: no bound may outgrow them.
  double largest_rms_error = 0;

  double ProductError(FormatId format, int64_t cols) const {
    if (MultipliesDigits(format, cols)) return 0;
    return product + (format == FormatId::kF32 || format == FormatId::kF16 ? left_out : 0);
  }
  bool MultipliesDigits(FormatId format, int64_t cols) const {
    return digit > 0 && (format == FormatId::kInt8 || (IsNf4(format) && cols % kNf4Block == 0));
  }
  static bool IsNf4(FormatId format) {
    return format == FormatId::kNf4 || format == FormatId::kNf4Dq;
  }
};

// Of 16-bit numbers whose largest is the row's (kernels/cpu/kernel_table.h). Against fp32's 2^-24
// that lets a bound of several calls grow.
inline constexpr Precision kDigitPrecision = {.digit = 0x1p-16, .largest_bound = 1};
// Of the matrix unit of AMX besides: the second part of x is rounded to 8 bits of what 8 bits left,
// 2^-16; the product of parts of 2^-7 and 2^-8 is left out.
inline constexpr Precision kAmxPrecision = {
    .product = 0x1p-16, .left_out = 0x1p-15, .digit = 0x1p-16, .largest_bound = 1};

// Of the CUDA backend (kernels/cuda/README.md): activations between products are fp16 or bf16 with
// the weights, and so are q and the softmax's weights with the cache; decoded NF4 is rounded to
// fp16, twice at most. Sums are fp32.
inline constexpr Precision kFp16Precision = {
    .activation = 0x1p-11, .weight = 0x1p-10, .product = 0x1p-11, .largest_rms_error = 0x1p-6};
inline constexpr Precision kBf16Precision = {
    .activation = 0x1p-8, .product = 0x1p-8, .largest_rms_error = 0x1p-4};

struct BackendUnderTest {
  const char* name;
  BackendOptions options;
  Precision precision;
  // What holds instead where weights or cache are of fewer bits than fp32; null: the same.
  const Precision* fp16 = nullptr;  // also int8 and NF4
  const Precision* bf16 = nullptr;

  const Precision& PrecisionOf(FormatId format, KvType kv) const {
    if (bf16 != nullptr && (format == FormatId::kBF16 || kv == KvType::kBF16)) return *bf16;
    const bool exact = format == FormatId::kF32 && kv == KvType::kF32;
    return fp16 == nullptr || exact ? precision : *fp16;
  }
};

inline void PrintTo(const BackendUnderTest& backend, std::ostream* out) { *out << backend.name; }

inline std::vector<BackendUnderTest> BackendsUnderTest() {
  const BackendUnderTest all[] = {
      {"portable", {.kind = "cpu", .isa = "portable", .threads = 2}, {}},
      {"avx2", {.kind = "cpu", .isa = "avx2", .threads = 2}, {}},
      {"avx512", {.kind = "cpu", .isa = "avx512", .threads = 2}, kDigitPrecision},
      {"avx512_bf16", {.kind = "cpu", .isa = "avx512_bf16", .threads = 2}, kDigitPrecision},
      {"amx", {.kind = "cpu", .isa = "amx", .threads = 2}, kAmxPrecision},
      {"amx_fast",
       {.kind = "cpu", .isa = "amx", .fast_prefill = true, .threads = 2},
       kAmxPrecision},
      {"cuda", {.kind = "cuda"}, {}, &kFp16Precision, &kBf16Precision},
      {"cuda_deterministic",
       {.kind = "cuda", .deterministic = true},
       {},
       &kFp16Precision,
       &kBf16Precision},
      {"cuda_portable",
       {.kind = "cuda", .deterministic = true, .portable_cuda = true},
       {},
       &kFp16Precision,
       &kBf16Precision},
  };
  std::vector<BackendUnderTest> here;
  for (const BackendUnderTest& backend : all) {
    if (MakeBackend(backend.options).ok()) here.push_back(backend);
  }
  return here;
}

inline std::unique_ptr<Backend> Make(const BackendOptions& options) {
  absl::StatusOr<std::unique_ptr<Backend>> backend = MakeBackend(options);
  VERNIER_CHECK(backend.ok());
  return *std::move(backend);
}

}  // namespace vernier::testing
