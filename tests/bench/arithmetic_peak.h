// The most multiply-adds a second that an instruction set of the CPU backend can do: what a share
// of the peak is a share of.
#pragma once

#include <string>

namespace vernier::bench {

// Of `threads` threads together, each with operands in registers: fused multiply-adds of fp32 for
// "avx2", "avx512" and "avx512_bf16", products of bf16 tiles for "amx"; 0 for others, and where the
// processor lacks them. The best of several runs, since it is a limit.
double ArithmeticPeak(const std::string& isa, int threads);

}  // namespace vernier::bench
