// One block of threads a record, one byte a thread and turn: the writes are coalesced, the reads
// are gathered. It runs once a weight at load.
#include "kernels/cuda/pack_device.h"
#include "kernels/cuda/packed_layout.h"

namespace vernier::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void PackFourBits(const uint8_t* codes, const float* scales, int64_t group,
                             uint8_t zero_pair, int64_t rows, int64_t cols, uint8_t* records) {
  const int64_t blocks = RecordBlocks(cols);
  const int64_t row = blockIdx.x / blocks * kRecordRows;
  const int64_t col = blockIdx.x % blocks * kRecordCols;
  uint8_t* out = records + static_cast<int64_t>(blockIdx.x) * kFourBitRecordBytes;
  for (int i = threadIdx.x; i < kFourBitCodeBytes; i += kThreads) {
    const RecordPosition at = FourBitPairAt(i);
    out[i] = row + at.row < rows ? codes[((row + at.row) * cols + col + at.col) / 2] : zero_pair;
  }
  for (int i = threadIdx.x; i < kRecordRows; i += kThreads) {
    const int64_t scale_row = row + FourBitScaleRowAt(i);
    reinterpret_cast<float*>(out + kFourBitCodeBytes)[i] =
        scale_row < rows ? scales[(scale_row * cols + col) / group] : 0.0f;
  }
}

__global__ void PackInt8(const int8_t* codes, int64_t rows, int64_t cols, uint8_t* records) {
  const int64_t blocks = RecordBlocks(cols);
  const int64_t row = blockIdx.x / blocks * kRecordRows;
  const int64_t col = blockIdx.x % blocks * kRecordCols;
  uint8_t* out = records + static_cast<int64_t>(blockIdx.x) * kInt8RecordBytes;
  for (int i = threadIdx.x; i < kInt8RecordBytes; i += kThreads) {
    const RecordPosition at = Int8At(i);
    const bool inside = row + at.row < rows && col + at.col < cols;
    const int code = inside ? codes[(row + at.row) * cols + col + at.col] : 0;
    out[i] = static_cast<uint8_t>(code + kInt8Bias);
  }
}

}  // namespace

cudaError_t LaunchPackNf4(const uint8_t* codes, const float* absmax, int64_t rows, int64_t cols,
                          uint8_t* records, cudaStream_t stream) {
  const unsigned grid = static_cast<unsigned>(RecordGroups(rows) * RecordBlocks(cols));
  PackFourBits<<<grid, kThreads, 0, stream>>>(codes, absmax, kRecordCols, kNf4ZeroPair, rows, cols,
                                              records);
  return cudaGetLastError();
}

cudaError_t LaunchPackInt4(const uint8_t* codes, const float* scales, int64_t group, int64_t rows,
                           int64_t cols, uint8_t* records, cudaStream_t stream) {
  const unsigned grid = static_cast<unsigned>(RecordGroups(rows) * RecordBlocks(cols));
  PackFourBits<<<grid, kThreads, 0, stream>>>(codes, scales, group, kInt4ZeroPair, rows, cols,
                                              records);
  return cudaGetLastError();
}

cudaError_t LaunchPackInt8(const int8_t* codes, int64_t rows, int64_t cols, uint8_t* records,
                           cudaStream_t stream) {
  const unsigned grid = static_cast<unsigned>(RecordGroups(rows) * RecordBlocks(cols));
  PackInt8<<<grid, kThreads, 0, stream>>>(codes, rows, cols, records);
  return cudaGetLastError();
}

}  // namespace vernier::cuda
