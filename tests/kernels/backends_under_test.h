// The backends that tests of the door run, and what each promises of its rounding.
//
// A backend joins with one row here; those that this build or processor lacks are left out.
#pragma once

#include <memory>
#include <ostream>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/make_backend.h"

namespace vernier::testing {

// Unit roundoffs: the largest relative error of one rounding.
struct Precision {
  double accumulate = 0x1p-24;  // of sums and of single operations
  double activation = 0;        // of storing x, q, a and h, where that is not fp32
  double weight = 0;            // of decoding a weight, beyond Dequantize's
};

struct BackendUnderTest {
  const char* name;
  BackendOptions options;
  Precision precision;
};

inline void PrintTo(const BackendUnderTest& backend, std::ostream* out) { *out << backend.name; }

inline std::vector<BackendUnderTest> BackendsUnderTest() {
  const BackendUnderTest all[] = {
      {"portable", {.kind = "cpu", .isa = "portable", .threads = 2}, {}},
      {"avx2", {.kind = "cpu", .isa = "avx2", .threads = 2}, {}},
      {"avx512", {.kind = "cpu", .isa = "avx512", .threads = 2}, {}},
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
