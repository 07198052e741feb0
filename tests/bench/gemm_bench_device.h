// What gemm_bench measures on the device: one weight shape at one number of rows, ours and
// cuBLASLt's, validated, then timed side by side.
//
// Plain values in and out; a CUDA or cuBLASLt error ends the program with its place. One thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vernier::bench {

struct GemmShape {
  const char* name;
  int outputs;  // N
  int inputs;   // K
};

// kInt4 has linear codes in groups of 128, as GPTQ's; kInt8A8 multiplies int8 x; kValues has 16
// bits a weight, for up to kMostValueRows rows.
enum class GemmFormat : uint8_t { kNf4, kInt4, kInt8, kInt8A8, kValues };
inline constexpr int kMostValueRows = 16;

struct GemmOptions {
  bool bf16 = false;
  int replays = 30;           // of each graph; the median counts. 0: MeasurePlans only validates
  int cublas_candidates = 8;  // heuristics of cuBLASLt that are timed, the fastest kept
  std::string bitsandbytes;   // path of its library for CUDA 13; empty: not timed
  std::string marlin;         // path of the library that gemm_rivals.sh builds; likewise
};

// One kernel's times over one shape or one layer.
struct GemmTiming {
  double us = 0;            // median a GEMM (a layer: of its four GEMMs together)
  double us_low = 0;        // 10th percentile
  double us_high = 0;       // 90th percentile
  double weight_bytes = 0;  // codes and scales read
  double error = 0;         // |y - reference| / |reference|, reference in double; 0 for cuBLASLt
  double error_limit = 0;   // from the roundings of the format and of y
  bool bits_equal = true;   // two runs gave the same bits
};

struct GemmMeasurement {
  GemmTiming cublas;           // the fastest of its candidates
  double cublas_first_us = 0;  // what its heuristic puts first
  GemmTiming nf4;
  GemmTiming int4;
  GemmTiming int8;
  GemmTiming int8_a8;
  GemmTiming values;        // of 16 bits; us 0: not for so many rows
  GemmTiming bitsandbytes;  // NF4, the faster of its two ways; us 0: not asked for
  GemmTiming marlin;        // int4; us 0: not asked for, or not of this shape
  GemmTiming cublas_int8;   // int8 by int8 to int32; us 0: not for so few rows
};

// One of the plans that can run a problem.
struct PlanTiming {
  const char* kernel = "";
  int tile_tokens = 0;
  int cluster = 0;
  int slices = 0;
  int cuts = 0;
  GemmTiming timing;
};

struct DeviceFacts {
  std::string name;
  int multiprocessors = 0;
  double l2_bytes = 0;
  double read_bytes_per_second = 0;  // measured, 2 GB
  int sm_clock_mhz = 0;              // the most that the device may run at
};

DeviceFacts MeasureDevice();

// Times one shape, every launch with another copy of the weight, copies of more than 4 x L2.
GemmMeasurement MeasureShape(const GemmShape& shape, int rows, const GemmOptions& options);

// Validates and times every plan that can run a shape, one after the other.
std::vector<PlanTiming> MeasurePlans(const GemmShape& shape, int rows, GemmFormat format,
                                     const GemmOptions& options);

// Times the shapes one after the other, as the GEMMs of a layer follow each other.
GemmMeasurement MeasureLayer(const std::vector<GemmShape>& shapes, int rows,
                             const GemmOptions& options);

}  // namespace vernier::bench
