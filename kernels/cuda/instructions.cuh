// The machine instructions that the kernels are made of, one function each (PTX ISA 8). Those of
// clusters, transaction barriers and bulk copies are of sm_90 and later; what calls them is
// compiled for Hopper alone.
//
// Shared addresses are 32-bit, in the shared window. What is asynchronous says what it counts
// itself in at.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace vernier::cuda {

inline constexpr int kBarrierBytes = 8;  // of a transaction barrier

__device__ inline uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ inline void CopyAsync16(uint32_t to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "r"(valid ? 16 : 0));
}

__device__ inline void CommitCopies() { asm volatile("cp.async.commit_group;"); }
template <int kPending>
__device__ inline void AwaitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

__device__ inline void LoadMatrix4(uint32_t address, uint32_t* out) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address));
}

// c += a b, shapes 16 x 16 and 16 x 8.
template <class Scalar>
__device__ inline void Multiply(const uint32_t (&a)[4], uint32_t b0, uint32_t b1, float (&c)[4]);
template <>
__device__ inline void Multiply<__half>(const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                                        float (&c)[4]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
__device__ inline void Multiply<__nv_bfloat16>(const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                                               float (&c)[4]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// The same of 8-bit numbers to whole sums, shapes 16 x 32 and 32 x 8.
__device__ inline void MultiplyInt8(const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                                    int32_t (&c)[4]) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ inline int ClusterRank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int>(rank);
}

// ---- Transaction barriers ----

// Where it is built with VERNIER_CUDA_DAWDLE, a warp sleeps up to some 16 us at one wait or arrival
// in sixteen, so that warps meet in orders that else come once in millions of launches.
__device__ inline void Dawdle() {
#ifdef VERNIER_CUDA_DAWDLE
  uint32_t draw = static_cast<uint32_t>(clock()) + threadIdx.x / 32 * 0x9e3779b9u + blockIdx.x * 77;
  draw = (draw ^ draw >> 13) * 0x85ebca6bu;
  draw = (draw ^ draw >> 13) * 0xc2b2ae35u;
  if (draw >> 28 == 0) __nanosleep(draw & 16383);
#endif
}
__device__ inline void InitBarrier(uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}
__device__ inline void Arrive(uint32_t barrier) {
  Dawdle();
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// At a barrier of any block of the cluster, by its RemoteAddress. Orders reads of shared memory
// before it; a release at cluster scope would wait for all memory traffic of the warp, about 1 us.
__device__ inline void ArriveRemote(uint32_t barrier) {
  Dawdle();
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ inline void ExpectBytes(uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes));
}
__device__ inline void AwaitPhase(uint32_t barrier, int parity) {
  Dawdle();
  uint32_t done = 0;
  while (done == 0) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2;\n"
        "selp.b32 %0, 1, 0, done;\n"
        "}\n"
        : "=r"(done)
        : "r"(barrier), "r"(parity)
        : "memory");
  }
}
// The address of `local` in block `rank` of the cluster.
__device__ inline uint32_t RemoteAddress(uint32_t local, int rank) {
  uint32_t remote;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(local), "r"(rank));
  return remote;
}
__device__ inline void SendAsync(uint32_t remote, const float4& v, uint32_t remote_barrier) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, "
      "[%5];" ::"r"(remote),
      "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w), "r"(remote_barrier)
      : "memory");
}
__device__ inline void SendAsync(uint32_t remote, const int4& v, uint32_t remote_barrier) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.s32 [%0], {%1, %2, %3, %4}, "
      "[%5];" ::"r"(remote),
      "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w), "r"(remote_barrier)
      : "memory");
}

// `bytes` of global memory into shared memory; they count themselves in at `barrier`.
__device__ inline void CopyBulk(uint32_t to, const uint8_t* from, int bytes, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
}

// A box of the tensor that `map` describes, from `column` and `row` on; what lies past its end is
// zero, and is counted too.
__device__ inline void CopyBox(uint32_t to, const void* map, int column, int row,
                               uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%2, %3}], [%4];" ::"r"(to),
      "l"(map), "r"(column), "r"(row), "r"(barrier)
      : "memory");
}

// The same as CopyBulk of what is read once: it makes room in the L2 cache first.
__device__ inline void CopyBulkOnce(uint32_t to, const uint8_t* from, int bytes, uint32_t barrier) {
  asm volatile(
      "{\n"
      ".reg .b64 policy;\n"
      "createpolicy.fractional.L2::evict_first.b64 policy, 1.0;\n"
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], "
      "[%1], "
      "%2, [%3], policy;\n"
      "}\n" ::"r"(to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
}

// How many came before. What any thread of the block wrote before its last barrier is there for
// whoever counts in later, and what those before wrote is there for the block after its next one.
__device__ inline int CountIn(int* arrivals) {
  int before;
  asm volatile("atom.add.acq_rel.gpu.global.s32 %0, [%1], 1;"
               : "=r"(before)
               : "l"(arrivals)
               : "memory");
  return before;
}

// Into the L2 cache: one value's line, or `bytes`, a multiple of 16, from an address that is one.
__device__ inline void PrefetchL2(const void* from) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
}
__device__ inline void PrefetchBulkL2(const void* from, int bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes));
}

template <class Scalar>
__device__ inline Scalar Round(float value);
template <>
__device__ inline __half Round<__half>(float value) {
  return __float2half_rn(value);
}
template <>
__device__ inline __nv_bfloat16 Round<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

}  // namespace vernier::cuda
