// The instructions of a warpgroup (wgmma, PTX ISA 8, sm_90a): products of decoded weights in
// registers with x in shared memory, and those of attention.
//
// A warpgroup is four warps whose first has a number that four divides; all of its threads call
// together. Products run on their own: registers that one reads or adds to must be left alone
// until WarpgroupWait says that it has ended.
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace vernier::cuda {

inline constexpr int kWarpgroupThreads = 128;

// Where wgmma finds a tile in shared memory, [tokens][64] of 16 bits or [tokens][128] of 8,
// 128-byte rows in the 128-byte swizzle of the copy engine, at an address that 1024 divides. Adding
// 2 moves on by 32 bytes: one k16, or one k32 of 8 bits.
VERNIER_HOST_DEVICE constexpr uint64_t TileDescriptor(uint32_t address) {
  constexpr uint64_t kSwizzle128 = 1ull << 62;
  constexpr uint64_t kEightRows = static_cast<uint64_t>(1024 / 16) << 32;  // from eight to eight
  return kSwizzle128 | kEightRows | 1ull << 16 | (address & 0x3ffff) >> 4;
}
inline constexpr int kDescriptorStep = 2;

// Where it finds the same of 16 bits to be read transposed: panels of [depth][64], `panel_bytes`
// apart. Adding kTransposedStep moves on by a depth of 16.
__device__ inline uint64_t TransposedDescriptor(uint32_t address, int panel_bytes) {
  const auto panel = static_cast<uint64_t>(panel_bytes / 16) << 16;
  return (TileDescriptor(address) & ~(0xffffull << 16)) | panel;
}
inline constexpr int kTransposedStep = 16 * 128 / 16;

// Records of the weight that `map` describes, from block `block` of row `row`.
__device__ inline void CopyRecords(uint32_t to, const CUtensorMap* map, int block, int row,
                                   uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%2, %3, %4}], [%5];" ::"r"(to),
      "l"(map), "r"(0), "r"(block), "r"(row), "r"(barrier)
      : "memory");
}
// A tile of the tensor that `map` describes into the same place of both blocks of a pair; it counts
// itself in at the barrier of each.
__device__ inline void CopyTileToPair(uint32_t to, const CUtensorMap* map, int col, int row,
                                      uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(to),
      "l"(map), "r"(col), "r"(row), "r"(barrier), "h"(static_cast<uint16_t>(3))
      : "memory");
}

// A box of a tensor of four or five dimensions into this block's shared memory.
__device__ inline void CopyBox4(uint32_t to, const CUtensorMap* map, const int (&at)[4],
                                uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%2, %3, %4, %5}], [%6];" ::"r"(to),
      "l"(map), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(barrier)
      : "memory");
}
__device__ inline void CopyBox5(uint32_t to, const CUtensorMap* map, const int (&at)[5],
                                uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%2, %3, %4, %5, %6}], [%7];" ::"r"(to),
      "l"(map), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4]), "r"(barrier)
      : "memory");
}
// Orders what the calling thread did to shared memory before what is then copied or multiplied.
__device__ inline void FenceForCopies() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Writes four 8 x 8 matrices of 16-bit numbers; lane l has the address of row l mod 8 of matrix
// l div 8.
__device__ inline void StoreMatrix4(uint32_t address, const uint32_t (&a)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
               "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])
               : "memory");
}
// Writes two 8 x 8 matrices of 16-bit numbers transposed; lane l has the address of row l mod 8 of
// matrix l div 8 mod 2.
__device__ inline void StoreMatrix2Transposed(uint32_t address, uint32_t a, uint32_t b) {
  asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(address),
               "r"(a), "r"(b)
               : "memory");
}

// Registers written before it are there for the products after it.
__device__ inline void WarpgroupFence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// Closes a group of products.
__device__ inline void WarpgroupCommit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Returns when all but the last kGroups groups have ended.
template <int kGroups>
__device__ inline void WarpgroupWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroups) : "memory");
}
// Keeps the compiler from moving uses of `d` across.
template <int kCount>
__device__ inline void HoldRegisters(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}
template <int kCount>
__device__ inline void HoldRegisters(int32_t (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(d[i])::"memory");
}

// d += a b, or d = a b where `add` is 0; shapes 64 x 16 and 16 x tokens, of int8_t 64 x 32 and 32 x
// tokens. `a` is as for mma.sync m16n8k16 (m16n8k32), a warp's rows 16 * (warp mod 4); d holds, for
// each eight tokens, the fragment of m16n8: fp32, and of int8_t int32_t, which wraps.
template <class Input, int kTokens>
struct WarpgroupProduct;
// The same of 16 bits with b read transposed (TransposedDescriptor).
template <class Input, int kColumns>
struct WarpgroupTransposedProduct;
// The same of 16 bits with `a` in shared memory, at a TileDescriptor.
template <class Input, int kColumns>
struct WarpgroupSharedProduct;

// Operands of d from `i` with constraint `c`, and their numbers from the one in the name: PTX wants
// each by itself.
#define VERNIER_D8(c, d, i) \
  c(d[i]), c(d[i + 1]), c(d[i + 2]), c(d[i + 3]), c(d[i + 4]), c(d[i + 5]), c(d[i + 6]), c(d[i + 7])
#define VERNIER_D16(c, d, i) VERNIER_D8(c, d, i), VERNIER_D8(c, d, i + 8)
#define VERNIER_D32(c, d, i) VERNIER_D16(c, d, i), VERNIER_D16(c, d, i + 16)
#define VERNIER_D64(c, d, i) VERNIER_D32(c, d, i), VERNIER_D32(c, d, i + 32)
#define VERNIER_D128(c, d, i) VERNIER_D64(c, d, i), VERNIER_D64(c, d, i + 64)
#define VERNIER_N0 "%0, %1, %2, %3, %4, %5, %6, %7"
#define VERNIER_N8 "%8, %9, %10, %11, %12, %13, %14, %15"
#define VERNIER_N16 "%16, %17, %18, %19, %20, %21, %22, %23"
#define VERNIER_N24 "%24, %25, %26, %27, %28, %29, %30, %31"
#define VERNIER_N32 "%32, %33, %34, %35, %36, %37, %38, %39"
#define VERNIER_N40 "%40, %41, %42, %43, %44, %45, %46, %47"
#define VERNIER_N48 "%48, %49, %50, %51, %52, %53, %54, %55"
#define VERNIER_N56 "%56, %57, %58, %59, %60, %61, %62, %63"
#define VERNIER_N64 "%64, %65, %66, %67, %68, %69, %70, %71"
#define VERNIER_N72 "%72, %73, %74, %75, %76, %77, %78, %79"
#define VERNIER_N80 "%80, %81, %82, %83, %84, %85, %86, %87"
#define VERNIER_N88 "%88, %89, %90, %91, %92, %93, %94, %95"
#define VERNIER_N96 "%96, %97, %98, %99, %100, %101, %102, %103"
#define VERNIER_N104 "%104, %105, %106, %107, %108, %109, %110, %111"
#define VERNIER_N112 "%112, %113, %114, %115, %116, %117, %118, %119"
#define VERNIER_N120 "%120, %121, %122, %123, %124, %125, %126, %127"
#define VERNIER_N0_15 VERNIER_N0 ", " VERNIER_N8
#define VERNIER_N0_31 VERNIER_N0_15 ", " VERNIER_N16 ", " VERNIER_N24
#define VERNIER_N0_63 \
  VERNIER_N0_31 ", " VERNIER_N32 ", " VERNIER_N40 ", " VERNIER_N48 ", " VERNIER_N56
#define VERNIER_N0_127                                                              \
  VERNIER_N0_63 ", " VERNIER_N64 ", " VERNIER_N72 ", " VERNIER_N80 ", " VERNIER_N88 \
                ", " VERNIER_N96 ", " VERNIER_N104 ", " VERNIER_N112 ", " VERNIER_N120

// `sums` is tokens / 2; a0, b and p are the numbers of the operands behind them. `kind` is the k of
// the instruction and its types, `end` its last operands.
#define VERNIER_PRODUCT(name, input, sum, c, kind, end, tokens, sums, numbers, a0, a1, a2, a3, b_, \
                        p_)                                                                        \
  template <>                                                                                      \
  struct name<input, tokens> {                                                                     \
    static __device__ inline void Add(sum (&d)[sums], const uint32_t (&a)[4], uint64_t b,          \
                                      int add) {                                                   \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #p_                                        \
                   ", 0;\nwgmma.mma_async.sync.aligned.m64n" #tokens kind " {" numbers "}, {%" #a0 \
                   ", %" #a1 ", %" #a2 ", %" #a3 "}, %" #b_ ", p" end ";\n}\n"                     \
                   : VERNIER_D##sums(c, d, 0)                                                      \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));                \
    }                                                                                              \
  };
#define VERNIER_PRODUCTS(input, sum, c, kind, end)                                                 \
  VERNIER_PRODUCT(WarpgroupProduct, input, sum, c, kind, end, 16, 8, VERNIER_N0, 8, 9, 10, 11, 12, \
                  13)                                                                              \
  VERNIER_PRODUCT(WarpgroupProduct, input, sum, c, kind, end, 32, 16, VERNIER_N0_15, 16, 17, 18,   \
                  19, 20, 21)                                                                      \
  VERNIER_PRODUCT(WarpgroupProduct, input, sum, c, kind, end, 64, 32, VERNIER_N0_31, 32, 33, 34,   \
                  35, 36, 37)                                                                      \
  VERNIER_PRODUCT(WarpgroupProduct, input, sum, c, kind, end, 128, 64, VERNIER_N0_63, 64, 65, 66,  \
                  67, 68, 69)                                                                      \
  VERNIER_PRODUCT(WarpgroupProduct, input, sum, c, kind, end, 256, 128, VERNIER_N0_127, 128, 129,  \
                  130, 131, 132, 133)

VERNIER_PRODUCTS(__half, float, "+f", "k16.f32.f16.f16", ", 1, 1, 0")
VERNIER_PRODUCTS(__nv_bfloat16, float, "+f", "k16.f32.bf16.bf16", ", 1, 1, 0")
VERNIER_PRODUCTS(int8_t, int32_t, "+r", "k32.s32.s8.s8", "")

#define VERNIER_TRANSPOSED_PRODUCTS(input, kind)                                              \
  VERNIER_PRODUCT(WarpgroupTransposedProduct, input, float, "+f", kind, ", 1, 1, 1", 64, 32,  \
                  VERNIER_N0_31, 32, 33, 34, 35, 36, 37)                                      \
  VERNIER_PRODUCT(WarpgroupTransposedProduct, input, float, "+f", kind, ", 1, 1, 1", 128, 64, \
                  VERNIER_N0_63, 64, 65, 66, 67, 68, 69)
VERNIER_TRANSPOSED_PRODUCTS(__half, "k16.f32.f16.f16")
VERNIER_TRANSPOSED_PRODUCTS(__nv_bfloat16, "k16.f32.bf16.bf16")

#define VERNIER_SHARED_PRODUCT(input, kind)                                                     \
  template <>                                                                                   \
  struct WarpgroupSharedProduct<input, 128> {                                                   \
    static __device__ inline void Add(float (&d)[64], uint64_t a, uint64_t b, int add) {        \
      asm volatile(                                                                             \
          "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\nwgmma.mma_async.sync.aligned.m64n128" kind \
          " {" VERNIER_N0_63 "}, %64, %65, p, 1, 1, 0, 0;\n}\n"                                 \
          : VERNIER_D64("+f", d, 0)                                                             \
          : "l"(a), "l"(b), "r"(add));                                                          \
    }                                                                                           \
  };
VERNIER_SHARED_PRODUCT(__half, "k16.f32.f16.f16")
VERNIER_SHARED_PRODUCT(__nv_bfloat16, "k16.f32.bf16.bf16")

#undef VERNIER_SHARED_PRODUCT
#undef VERNIER_TRANSPOSED_PRODUCTS
#undef VERNIER_PRODUCTS
#undef VERNIER_PRODUCT
#undef VERNIER_N0_127
#undef VERNIER_N0_63
#undef VERNIER_N0_31
#undef VERNIER_N0_15
#undef VERNIER_N120
#undef VERNIER_N112
#undef VERNIER_N104
#undef VERNIER_N96
#undef VERNIER_N88
#undef VERNIER_N80
#undef VERNIER_N72
#undef VERNIER_N64
#undef VERNIER_N56
#undef VERNIER_N48
#undef VERNIER_N40
#undef VERNIER_N32
#undef VERNIER_N24
#undef VERNIER_N16
#undef VERNIER_N8
#undef VERNIER_N0
#undef VERNIER_D128
#undef VERNIER_D64
#undef VERNIER_D32
#undef VERNIER_D16
#undef VERNIER_D8

}  // namespace vernier::cuda
