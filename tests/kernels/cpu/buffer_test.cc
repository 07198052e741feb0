#include "kernels/cpu/buffer.h"

#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace vernier {
namespace {

TEST(BufferTest, IsZeroAlignedAndCountsItsPadding) {
  for (const int64_t bytes : {int64_t{1}, int64_t{65}, (int64_t{1} << 20) + 1}) {
    const absl::StatusOr<Buffer> buffer = Buffer::Allocate(bytes, "test");
    ASSERT_TRUE(buffer.ok()) << buffer.status();
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0u);
    EXPECT_EQ(buffer->bytes(), (bytes + 63) / 64 * 64);
    for (int64_t i = 0; i < buffer->bytes(); ++i) ASSERT_EQ(buffer->data()[i], 0);
  }
}

TEST(BufferTest, MovingLeavesNothingBehind) {
  Buffer first = *Buffer::Allocate(100, "test");
  const uint8_t* data = first.data();
  const Buffer second = std::move(first);
  EXPECT_EQ(second.data(), data);
}

TEST(BufferTest, SizesThatCannotBeAreResourceExhausted) {
  EXPECT_EQ(Buffer::Allocate(-1, "test").status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Buffer::Allocate(int64_t{1} << 60, "test").status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(ArenaTest, BuffersAreZeroAndDisjointAndOutliveIt) {
  // Enough of them for a second slab; the last has a map of its own.
  constexpr int64_t kMany = int64_t{3} << 20;
  std::vector<Buffer> buffers;
  {
    Arena arena;
    std::vector<int64_t> sizes = {1, 100};
    sizes.insert(sizes.end(), 44, kMany);
    sizes.insert(sizes.end(), {64, kMany * 8});
    for (const int64_t bytes : sizes) {
      absl::StatusOr<Buffer> buffer = arena.Allocate(bytes, "test");
      ASSERT_TRUE(buffer.ok()) << buffer.status();
      EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0u);
      EXPECT_EQ(buffer->bytes(), (bytes + 63) / 64 * 64);
      buffers.push_back(*std::move(buffer));
    }
    EXPECT_EQ(arena.Allocate(-1, "test").status().code(), absl::StatusCode::kResourceExhausted);
  }
  for (size_t i = 0; i < buffers.size(); ++i) {
    for (int64_t at = 0; at < buffers[i].bytes(); at += 63) ASSERT_EQ(buffers[i].data()[at], 0);
    std::memset(buffers[i].data(), static_cast<int>(i + 1), buffers[i].bytes());
  }
  for (size_t i = 0; i < buffers.size(); ++i) {
    EXPECT_EQ(buffers[i].data()[0], i + 1);
    EXPECT_EQ(buffers[i].data()[buffers[i].bytes() - 1], i + 1);
  }
}

TEST(ArenaTest, ASlabGoesWithTheLastOfItsBuffers) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer keeps its own copy of what was written";
#endif
  constexpr int64_t kBytes = int64_t{3} << 20;
  const auto resident = [] {
    int64_t pages = 0, resident_pages = 0;
    std::ifstream("/proc/self/statm") >> pages >> resident_pages;
    return resident_pages * sysconf(_SC_PAGESIZE);
  };
  Arena arena;
  const int64_t before = resident();
  {
    std::vector<Buffer> buffers;
    for (int i = 0; i < 8; ++i) {
      absl::StatusOr<Buffer> buffer = arena.Allocate(kBytes, "test");
      ASSERT_TRUE(buffer.ok()) << buffer.status();
      std::memset(buffer->data(), 1, static_cast<size_t>(kBytes));
      buffers.push_back(*std::move(buffer));
    }
    EXPECT_GE(resident() - before, 8 * kBytes);
  }
  EXPECT_LT(resident() - before, 4 * kBytes);
}

TEST(CheckedTest, OverflowAndNegativesStayNegative) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(CheckedMultiply(3, 4), 12);
  EXPECT_EQ(CheckedMultiply(kMax, 2), -1);
  EXPECT_EQ(CheckedMultiply(-1, 0), -1);
  EXPECT_EQ(CheckedAdd(kMax, 1), -1);
  EXPECT_EQ(CheckedAdd(-1, 5), -1);
  EXPECT_EQ(CheckedRoundUp(65, 64), 128);
  EXPECT_EQ(CheckedRoundUp(64, 64), 64);
  EXPECT_EQ(CheckedRoundUp(kMax, 64), -1);
}

}  // namespace
}  // namespace vernier
