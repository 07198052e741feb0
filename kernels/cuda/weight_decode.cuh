// One value of a weight in any encoding: for embeddings, and for products of weights that no faster
// kernel takes.
#pragma once

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/device_types.h"
#include "kernels/nf4_values.h"

namespace vernier::cuda {

// The inverse of Int8At: the byte of row `row`, column `col` of a record.
__device__ inline int Int8ByteOf(int row, int col) {
  const int tile = row / kTileRows, in_tile = row % kTileRows;
  const int step = col / 16, in_step = col % 16;
  const int lane = 4 * (in_tile % 8) + in_step % 8 / 2;
  const int a_register = in_tile / 8 + 2 * (in_step / 8);
  return tile * kInt8TileBytes + step / 2 * 512 + lane * 16 + step % 2 * 8 + a_register * 2 +
         col % 2;
}

// The inverse of FourBitPairAt: the byte that holds the pair with column `col`.
__device__ inline int Nf4ByteOf(int row, int col) {
  const int tile = row / kTileRows, in_tile = row % kTileRows;
  const int step = col / 16, in_step = col % 16;
  const int lane = 4 * (in_tile % 8) + in_step % 8 / 2;
  const int a_register = in_tile / 8 + 2 * (in_step / 8);
  return tile * kFourBitTileBytes + lane * 16 + step * 4 + a_register;
}

// The inverse of FourBitScaleRowAt.
__device__ inline int Nf4ScaleOf(int row) {
  return 4 * (row % 8) + 2 * (row / kTileRows) + row % kTileRows / 8;
}

__device__ inline float Nf4Value(uint8_t pair, bool odd) {
  constexpr float kValues[16] = {kNf4Values[0],  kNf4Values[1],  kNf4Values[2],  kNf4Values[3],
                                 kNf4Values[4],  kNf4Values[5],  kNf4Values[6],  kNf4Values[7],
                                 kNf4Values[8],  kNf4Values[9],  kNf4Values[10], kNf4Values[11],
                                 kNf4Values[12], kNf4Values[13], kNf4Values[14], kNf4Values[15]};
  return kValues[odd ? pair & 15 : pair >> 4];
}

__device__ inline float Decode(const DeviceWeight& weight, int64_t row, int64_t col) {
  const int64_t i = row * weight.cols + col;
  switch (weight.encoding) {
    case Encoding::kF32:
      return Load(weight.codes, Scalar::kF32, i);
    case Encoding::kF16:
      return Load(weight.codes, Scalar::kF16, i);
    case Encoding::kBF16:
      return Load(weight.codes, Scalar::kBF16, i);
    case Encoding::kInt8Rows:
      return static_cast<float>(reinterpret_cast<const int8_t*>(weight.codes)[i]) *
             weight.scales[row];
    case Encoding::kNf4Blocks:
      return Nf4Value(weight.codes[i / 2], i % 2 != 0) * weight.scales[i / kRecordCols];
    case Encoding::kInt8Records:
    case Encoding::kNf4Records:
      break;
  }
  const int64_t record = row / kRecordRows * RecordBlocks(weight.cols) + col / kRecordCols;
  const int in_row = static_cast<int>(row % kRecordRows);
  const int in_col = static_cast<int>(col % kRecordCols);
  if (weight.encoding == Encoding::kInt8Records) {
    const uint8_t* bytes = weight.codes + record * kInt8RecordBytes;
    return static_cast<float>(bytes[Int8ByteOf(in_row, in_col)] - kInt8Bias) * weight.scales[row];
  }
  const uint8_t* bytes = weight.codes + record * kFourBitRecordBytes;
  const float* scales = reinterpret_cast<const float*>(bytes + kFourBitCodeBytes);
  return Nf4Value(bytes[Nf4ByteOf(in_row, in_col)], in_col % 2 != 0) * scales[Nf4ScaleOf(in_row)];
}

}  // namespace vernier::cuda
