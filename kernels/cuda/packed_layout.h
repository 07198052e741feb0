// Where each weight lies in the packed layout: one copy serves every number of rows of x.
//
// The layout is that of the A operand of mma.sync m16n8k16 (and of wgmma m64nNk16, which is four of
// them): a lane finds the registers of a 16 x 64 tile in 16 (NF4) or 32 (int8) bytes of its own, so
// that a warp reads a tile with fully used 16-byte loads and nothing is shuffled afterwards.
// README.md draws it byte by byte. Plain functions, for the host and for the device.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define VERNIER_HOST_DEVICE __host__ __device__
#else
#define VERNIER_HOST_DEVICE
#endif

namespace vernier::cuda {

// How the bytes of a weight are read. kNf4 and kInt4 are records of the same bytes, whose codes are
// other numbers: kInt4's code q is q - 8, its scales those of groups of columns. kValues is not
// packed: 16-bit values in rows, as cuBLASLt wants them, of the type of x.
enum class PackedEncoding : uint8_t { kNf4, kInt4, kInt8, kValues };
VERNIER_HOST_DEVICE constexpr bool IsFourBits(PackedEncoding encoding) {
  return encoding == PackedEncoding::kNf4 || encoding == PackedEncoding::kInt4;
}

inline constexpr int kRecordRows = 32;  // outputs of one record
inline constexpr int kGroupRows = 64;   // rows are padded to whole groups of two records
inline constexpr int kRecordCols = 64;  // inputs of one record: one block of NF4
inline constexpr int kTileRows = 16;    // rows of one A operand
inline constexpr int kTilesPerRecord = 2;
inline constexpr int kFourBitTileBytes = 512;
inline constexpr int kInt8TileBytes = 1024;
inline constexpr int kFourBitCodeBytes = kTilesPerRecord * kFourBitTileBytes;  // the scales follow
inline constexpr int kFourBitRecordBytes = kFourBitCodeBytes + kRecordRows * 4;
inline constexpr int kInt8RecordBytes = kTilesPerRecord * kInt8TileBytes;
inline constexpr uint8_t kInt8Bias = 128;  // stored byte = code + 128
inline constexpr int kInt4Zero = 8;        // kInt4's code of the value 0
// Two codes of the value 0: rows that pad a record.
inline constexpr uint8_t kNf4ZeroPair = 0x77;
inline constexpr uint8_t kInt4ZeroPair = kInt4Zero << 4 | kInt4Zero;

VERNIER_HOST_DEVICE constexpr int RecordBytes(PackedEncoding encoding) {
  if (encoding == PackedEncoding::kValues) return kRecordRows * kRecordCols * 2;
  return IsFourBits(encoding) ? kFourBitRecordBytes : kInt8RecordBytes;
}

// Row and column of a weight inside its 32 x 64 record.
struct RecordPosition {
  int row = 0;
  int col = 0;
};

// The even-column weight of the pair in byte `byte` of a four-bit record's codes: its code is the
// high nibble, and the code of the next column the low one.
VERNIER_HOST_DEVICE constexpr RecordPosition FourBitPairAt(int byte) {
  const int tile = byte / kFourBitTileBytes;
  const int lane = byte / 16 % 32;
  const int step = byte / 4 % 4;    // which k16 of the block
  const int a_register = byte % 4;  // of the A operand
  return {tile * kTileRows + lane / 4 + 8 * (a_register & 1),
          step * 16 + 2 * (lane % 4) + 8 * (a_register >> 1)};
}

// The row of float `lane` among the 32 scales of a four-bit record: lane 4g + t holds that of row
// g + 8 (t mod 2) of tile t div 2.
VERNIER_HOST_DEVICE constexpr int FourBitScaleRowAt(int lane) {
  return lane % 4 / 2 * kTileRows + lane / 4 + 8 * (lane % 2);
}

// The weight in byte `byte` of an int8 record.
VERNIER_HOST_DEVICE constexpr RecordPosition Int8At(int byte) {
  const int tile = byte / kInt8TileBytes;
  const int lane = byte / 16 % 32;
  const int step = byte / 512 % 2 * 2 + byte / 8 % 2;
  const int a_register = byte / 2 % 4;
  return {tile * kTileRows + lane / 4 + 8 * (a_register & 1),
          step * 16 + 2 * (lane % 4) + 8 * (a_register >> 1) + byte % 2};
}

// Where column `col` of a row of int8 x lies in it, so that the bytes of a lane's int8 record are
// the A operand of the k32 products of 8-bit numbers (m16n8k32, m64nNk32) too: of sixteen columns,
// lane t of four has 2t, 2t + 1, 2t + 8 and 2t + 9, which are bytes 4t to 4t + 3 of that operand.
VERNIER_HOST_DEVICE constexpr int64_t Int8XPosition(int64_t col) {
  return col / 16 * 16 + col % 8 / 2 * 4 + col % 16 / 8 * 2 + col % 2;
}
// Of the sixteen bytes that a lane has of a tile and 32 columns: the one that is byte `i` of
// register `a_register` of that operand.
VERNIER_HOST_DEVICE constexpr int Int8ByteOfRegister(int a_register, int i) {
  return a_register / 2 * 8 + i / 2 * 4 + a_register % 2 * 2 + i % 2;
}

// Records of a [rows, cols] weight: [RecordGroups(rows)][RecordBlocks(cols)], rows outermost.
VERNIER_HOST_DEVICE constexpr int64_t RecordGroups(int64_t rows) {
  return (rows + kGroupRows - 1) / kGroupRows * (kGroupRows / kRecordRows);
}
VERNIER_HOST_DEVICE constexpr int64_t RecordBlocks(int64_t cols) {
  return (cols + kRecordCols - 1) / kRecordCols;
}
VERNIER_HOST_DEVICE constexpr int64_t PackedBytes(PackedEncoding encoding, int64_t rows,
                                                  int64_t cols) {
  return RecordGroups(rows) * RecordBlocks(cols) * RecordBytes(encoding);
}

}  // namespace vernier::cuda
