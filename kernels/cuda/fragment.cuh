// From packed bytes to the registers of the tensor cores' A operand: one row a format.
//
// A Decoder has: kEncoding; Place, where a lane's share of a 16 x 64 tile lies in shared memory;
// the registers that it is loaded into, of a tile or of a Record's two; and their Decode(step), the
// four A registers of one k16. Scalar, the type of y, is __half or __nv_bfloat16; Input is what is
// multiplied, Sum what products add up to, Quad four of them, kBlockRecords how many records of a
// row make a block of four steps, and kWarpTiles how many tiles a warp of gemm_rows16 has of a
// block.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/gemm_plan.h"
#include "kernels/cuda/instructions.cuh"
#include "kernels/cuda/packed_layout.h"
#include "kernels/nf4_values.h"

namespace vernier::cuda {

// What the codes of a four-bit record are worth. Kernels take it as a parameter: constants of their
// own would be fetched from memory first (7 % of a launch of 30 us).
struct Codebook {
  float values[16];  // multiplied
  float inverse;     // what sums of them are multiplied by at the end

  // On the host. NF4's values are multiplied by the factor for which the 16 products round best,
  // half the relative error of the plain ones; kInt4's are exact as they are.
  Codebook(PackedEncoding encoding, Activation activation) {
    const bool int4 = encoding == PackedEncoding::kInt4;
    const float multiplier = int4                              ? 1
                             : activation == Activation::kBF16 ? kNf4MultiplierBF16
                                                               : kNf4MultiplierF16;
    for (int code = 0; code < 16; ++code) {
      const float value = int4 ? static_cast<float>(code - kInt4Zero) : kNf4Values[code];
      values[code] = multiplier * value;
    }
    inverse = 1 / multiplier;
  }
  static constexpr float kNf4MultiplierF16 = 1.638496f;   // largest relative error 1.64e-4
  static constexpr float kNf4MultiplierBF16 = 1.188812f;  // 1.56e-3
};

// The pair table: row v of 256 bytes holds, in bytes [4 * lane, +4), the two values of byte v for
// that lane alone, so that no lookup meets another in a bank. Bytes 128 to 255 of every row are
// free for other use: the stride makes an address one PRMT.
inline constexpr int kPairTableBytes = 256 * 256;
inline constexpr int kPairTableRowBytes = 256;
inline constexpr int kPairTableHole = 128;  // first free byte of a row

template <class Scalar>
__device__ inline uint32_t PackPair(float low, float high);
template <>
__device__ inline uint32_t PackPair<__half>(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
template <>
__device__ inline uint32_t PackPair<__nv_bfloat16>(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// 16-bit values in shared memory: rows of 64 columns, their chunks of 16 bytes exchanged as the
// copy engine's swizzle of 128 bytes does, so that eight rows lie in different banks.
inline constexpr int kValueRowBytes = 128;

// Fills the table with `threads` threads; a barrier must follow.
template <class Scalar>
__device__ inline void BuildPairTable(const Codebook& codebook, uint8_t* table, int threads) {
  const int lane = threadIdx.x % 32;
  const float code = codebook.values[lane % 16];
  // Four rows a warp and turn, eight lanes a row.
  for (int row = threadIdx.x / 32 * 4; row < 256; row += threads / 32 * 4) {
    const int pair = row + lane / 8;
    const float low = __shfl_sync(~0u, code, pair >> 4);
    const float high = __shfl_sync(~0u, code, pair & 15);
    const uint32_t value = PackPair<Scalar>(low, high);
    *reinterpret_cast<uint4*>(table + pair * kPairTableRowBytes + lane % 8 * 16) =
        make_uint4(value, value, value, value);
  }
}

// Has the compiler keep `value` where it would compute it again at each use.
__device__ inline void HoldRegister(int& value) { asm volatile("" : "+r"(value)); }

__device__ inline uint32_t WordOf(const uint4& v, int index) {
  return index == 0 ? v.x : index == 1 ? v.y : index == 2 ? v.z : v.w;
}

// The A registers of one k16 of four-bit codes: four pairs of them, bare. `lane_offset` is 4 *
// lane.
__device__ inline void LookUpPairs(const uint8_t* table, uint32_t lane_offset, uint32_t word,
                                   uint32_t (&a)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    // {lane_offset, byte i of word, 0, 0}: the row of the pair, this lane's copy.
    const uint32_t offset = __byte_perm(word, lane_offset, 0x5504 | i << 4);
    a[i] = *reinterpret_cast<const uint32_t*>(table + offset);
  }
}

template <class Scalar>
struct PairOf;
template <>
struct PairOf<__half> {
  using Type = __half2;
  static __device__ inline Type Twice(float v) { return __float2half2_rn(v); }
};
template <>
struct PairOf<__nv_bfloat16> {
  using Type = __nv_bfloat162;
  static __device__ inline Type Twice(float v) { return __float2bfloat162_rn(v); }
};

// Of kNf4 and kInt4.
template <class ScalarType>
struct FourBitDecoder {
  using Scalar = ScalarType;
  using Input = Scalar;
  using Sum = float;
  using Quad = float4;  // of sums
  static constexpr int kBlockRecords = 1;
  static constexpr int kWarpTiles = 2;
  static constexpr Activation kActivation = Activation::kF16;  // or kBF16: two bytes a value
  static constexpr PackedEncoding kEncoding = PackedEncoding::kNf4;
  static constexpr int kRecordBytes = kFourBitRecordBytes;
  static constexpr bool kHasTable = true;

  // Where in a record a lane's share of a tile lies.
  struct Place {
    int codes;
    int absmax;
    __device__ Place(int tile, int lane)
        : codes(tile * kFourBitTileBytes + lane * 16),
          absmax(kFourBitCodeBytes + (lane / 4 * 4 + tile * 2) * 4) {}
    __device__ void Move(int bytes) {
      codes += bytes;
      absmax += bytes;
    }
  };

  // A lane's share of a record.
  struct Record {
    uint4 tiles[kTilesPerRecord];
    float4 absmax;  // of rows g and g + 8 of the first tile, and of the second

    // From shared memory; `at` is the first tile's place.
    __device__ void Load(const uint8_t* shared, const Place& at) {
#pragma unroll
      for (int i = 0; i < kTilesPerRecord; ++i) {
        tiles[i] = *reinterpret_cast<const uint4*>(shared + at.codes + i * kFourBitTileBytes);
      }
      absmax = *reinterpret_cast<const float4*>(shared + at.absmax);
    }

    // The A registers of k16 `step` of tile `tile`. `lane_offset` is 4 * lane.
    __device__ void Decode(const uint8_t* table, uint32_t lane_offset, int tile, int step,
                           uint32_t (&a)[4]) const {
      LookUpPairs(table, lane_offset, WordOf(tiles[tile], step), a);
    }
  };

  // A lane's share of one tile, and absmax of its rows g and g + 8.
  struct BareTile {
    uint4 codes;
    float2 absmax;

    // From a record in shared memory.
    __device__ void Load(const uint8_t* record, const Place& at) {
      codes = *reinterpret_cast<const uint4*>(record + at.codes);
      absmax = *reinterpret_cast<const float2*>(record + at.absmax);
    }
    __device__ void Decode(const uint8_t* table, uint32_t lane_offset, int step,
                           uint32_t (&a)[4]) const {
      LookUpPairs(table, lane_offset, WordOf(codes, step), a);
    }
  };

  // A lane's share of one tile, its values multiplied by absmax as they are decoded. absmax is the
  // sum of two 16-bit numbers, so that only the product rounds.
  struct ScaledTile {
    using Pair = typename PairOf<Scalar>::Type;
    uint4 codes;
    Pair large[2];  // of rows g and g + 8
    Pair small[2];

    // From a record in shared memory.
    __device__ void Load(const uint8_t* record, const Place& at) {
      BareTile bare;
      bare.Load(record, at);
      codes = bare.codes;
      Split(bare.absmax.x, 0);
      Split(bare.absmax.y, 1);
    }
    __device__ void Split(float absmax, int row) {
      large[row] = PairOf<Scalar>::Twice(absmax);
      small[row] = PairOf<Scalar>::Twice(absmax - static_cast<float>(large[row].x));
    }

    __device__ void Decode(const uint8_t* table, uint32_t lane_offset, int step,
                           uint32_t (&a)[4]) const {
      LookUpPairs(table, lane_offset, WordOf(codes, step), a);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const Pair code = *reinterpret_cast<const Pair*>(&a[i]);
        const Pair value = __hfma2(code, large[i % 2], __hmul2(code, small[i % 2]));
        a[i] = *reinterpret_cast<const uint32_t*>(&value);
      }
    }
  };
};

// Two codes + 128 as fp16: bytes i and j of a word for 0x4j4i. A byte b behind the exponent of
// 1024, of which `exponent` has four, is 1024 + b.
inline constexpr uint32_t kInt8HalfExponent = 0x64646464;
__device__ inline uint32_t Int8HalfPair(uint32_t word, uint32_t bytes, uint32_t exponent) {
  const uint32_t biased = __byte_perm(word, exponent, bytes);
  const __half2 value = __hsub2(*reinterpret_cast<const __half2*>(&biased),
                                __half2half2(__ushort_as_half(0x6480)));  // 1024 + 128
  return *reinterpret_cast<const uint32_t*>(&value);
}

template <class Scalar>
__device__ inline uint32_t Int8Pair(uint32_t word, int pair);
template <>
__device__ inline uint32_t Int8Pair<__half>(uint32_t word, int pair) {
  return Int8HalfPair(word, pair == 0 ? 0x4140 : 0x4342, kInt8HalfExponent);
}
// bf16 has seven bits of mantissa: the low seven count from 128, and the eighth chooses whether 128
// or 256 is taken away, both exact.
template <>
__device__ inline uint32_t Int8Pair<__nv_bfloat16>(uint32_t word, int pair) {
  const uint32_t biased = __byte_perm(word, 0x43434343, pair == 0 ? 0x4140 : 0x4342);
  const uint32_t low = biased & 0xff7fff7f;
  const uint32_t away = (biased & 0xff80ff80) ^ 0x00800080;
  const __nv_bfloat162 value = __hsub2(*reinterpret_cast<const __nv_bfloat162*>(&low),
                                       *reinterpret_cast<const __nv_bfloat162*>(&away));
  return *reinterpret_cast<const uint32_t*>(&value);
}

template <class ScalarType>
struct Int8Decoder {
  using Scalar = ScalarType;
  using Input = Scalar;
  using Sum = float;
  using Quad = float4;  // of sums
  static constexpr int kBlockRecords = 1;
  static constexpr int kWarpTiles = 2;
  static constexpr Activation kActivation = Activation::kF16;  // or kBF16: two bytes a value
  static constexpr PackedEncoding kEncoding = PackedEncoding::kInt8;
  static constexpr int kRecordBytes = kInt8RecordBytes;
  static constexpr bool kHasTable = false;

  // Where in a record a lane's share of a tile lies.
  struct Place {
    int codes;
    __device__ Place(int tile, int lane) : codes(tile * kInt8TileBytes + lane * 16) {}
    __device__ void Move(int bytes) { codes += bytes; }
  };

  // A lane's share of one tile; exact, the row's scale comes later.
  struct ScaledTile {
    uint4 words[2];

    __device__ void Load(const uint8_t* record, const Place& at) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        words[i] = *reinterpret_cast<const uint4*>(record + at.codes + i * 512);
      }
    }
    __device__ void Decode(const uint8_t*, uint32_t, int step, uint32_t (&a)[4]) const {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        a[i] = Int8Pair<Scalar>(WordOf(words[step / 2], step % 2 * 2 + i / 2), i % 2);
      }
    }
  };

  // A lane's share of a record.
  struct Record {
    ScaledTile tiles[kTilesPerRecord];

    __device__ void Load(const uint8_t* shared, const Place& at) {
#pragma unroll
      for (int i = 0; i < kTilesPerRecord; ++i) tiles[i].Load(shared + i * kInt8TileBytes, at);
    }
    __device__ void Decode(const uint8_t* table, uint32_t lane_offset, int tile, int step,
                           uint32_t (&a)[4]) const {
      tiles[tile].Decode(table, lane_offset, step, a);
    }
  };
};

// int8 weights as they are, for int8 x: a step is a k32, and two records' 128 columns a block. x
// lies in the order of Int8XPosition, so that a register is two exchanges of bytes.
struct Int8ByInt8Decoder {
  using Scalar = __half;
  using Input = int8_t;
  using Sum = int32_t;
  using Quad = int4;
  static constexpr Activation kActivation = Activation::kInt8;
  static constexpr PackedEncoding kEncoding = PackedEncoding::kInt8;
  static constexpr int kRecordBytes = kInt8RecordBytes;
  static constexpr int kBlockRecords = 2;
  static constexpr int kWarpTiles = 2;
  static constexpr bool kHasTable = false;

  using Place = Int8Decoder<Scalar>::Place;

  // A lane's share of one tile of both records, where it lies in shared memory.
  struct ScaledTile {
    const uint8_t* bytes;

    __device__ void Load(const uint8_t* block, const Place& at) { bytes = block + at.codes; }
    __device__ void Decode(const uint8_t*, uint32_t, int step, uint32_t (&a)[4]) const {
      ToRegisters(*reinterpret_cast<const uint4*>(StepOf(bytes, step)), a);
    }
  };

  // A lane's share of a block.
  struct Record {
    uint4 words[kTilesPerRecord][4];  // [tile][step]

    __device__ void Load(const uint8_t* shared, const Place& at) {
#pragma unroll
      for (int i = 0; i < kTilesPerRecord * 4; ++i) {
        words[i / 4][i % 4] = *reinterpret_cast<const uint4*>(
            StepOf(shared + at.codes + i / 4 * kInt8TileBytes, i % 4));
      }
    }
    __device__ void Decode(const uint8_t*, uint32_t, int tile, int step, uint32_t (&a)[4]) const {
      ToRegisters(words[tile][step], a);
    }
  };

  static __device__ const uint8_t* StepOf(const uint8_t* bytes, int step) {
    return bytes + step / 2 * kInt8RecordBytes + step % 2 * 512;
  }
  // As Int8ByteOfRegister says.
  static __device__ void ToRegisters(const uint4& words, uint32_t (&a)[4]) {
    constexpr uint32_t kBiases = kInt8Bias * 0x01010101u;
    a[0] = __byte_perm(words.x, words.y, 0x5410) ^ kBiases;
    a[1] = __byte_perm(words.x, words.y, 0x7632) ^ kBiases;
    a[2] = __byte_perm(words.z, words.w, 0x5410) ^ kBiases;
    a[3] = __byte_perm(words.z, words.w, 0x7632) ^ kBiases;
  }
};

// 16-bit values in rows, which ldmatrix turns into registers.
template <class ScalarType>
struct ValueDecoder {
  using Scalar = ScalarType;
  using Input = Scalar;
  using Sum = float;
  using Quad = float4;  // of sums
  static constexpr int kBlockRecords = 1;
  static constexpr int kWarpTiles = 1;
  static constexpr Activation kActivation = Activation::kF16;  // or kBF16: two bytes a value
  static constexpr PackedEncoding kEncoding = PackedEncoding::kValues;
  static constexpr int kRecordBytes = RecordBytes(kEncoding);
  static constexpr bool kHasTable = false;

  // This lane's row of a tile for ldmatrix, and how its chunks are exchanged.
  struct Place {
    int row;
    int exchange;
    __device__ Place(int tile, int lane)
        : row((tile * kTileRows + lane % 16) * kValueRowBytes),
          exchange((lane / 16 ^ lane % 8) * 16) {}
    __device__ void Move(int bytes) { row += bytes; }
  };

  // A lane's share of a tile of 16 x 64.
  struct Record {
    uint32_t steps[4][4];

    // From shared memory, where the swizzle begins at `at`.
    __device__ void Load(const uint8_t* shared, const Place& at) {
      const uint32_t own = SharedAddress(shared) + at.row;
#pragma unroll
      for (int i = 0; i < 4; ++i) LoadMatrix4(own + (i * 32 ^ at.exchange), steps[i]);
    }
    __device__ void Decode(const uint8_t*, uint32_t, int, int step, uint32_t (&a)[4]) const {
#pragma unroll
      for (int i = 0; i < 4; ++i) a[i] = steps[step][i];
    }
  };
};

}  // namespace vernier::cuda
