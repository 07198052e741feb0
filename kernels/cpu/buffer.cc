#include "kernels/cpu/buffer.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/sanitizer.h"

namespace vernier {
namespace {

constexpr int64_t kCacheLine = 64;
// From here on pages of their own: returned to the system when freed, and refused with a status
// where there is no room.
constexpr int64_t kMapFrom = int64_t{1} << 20;

// Of the pages of a slab those exist that were written, so its size costs addresses alone; but the
// last page of each is huge and written in part, so few slabs are better than many. A sanitizer
// looks for reads past the end of a buffer, so that there each has memory of its own.
constexpr int64_t kSlabBytes = int64_t{128} << 20;
#if VERNIER_CHECKS_ADDRESSES
constexpr int64_t kMostSlabBytes = 0;
#else
constexpr int64_t kMostSlabBytes = int64_t{4} << 20;  // larger buffers have a map of their own
#endif

}  // namespace

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(mapped_, other.mapped_);
  std::swap(slab_, other.slab_);
  return *this;
}

Buffer::~Buffer() {
  if (data_ == nullptr || slab_ != nullptr) return;
  if (mapped_) {
    munmap(data_, static_cast<size_t>(bytes_));
  } else {
    std::free(data_);
  }
}

absl::StatusOr<Buffer> Buffer::Allocate(int64_t bytes, absl::string_view what) {
  if (bytes < 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat(what, " needs more bytes than can be addressed"));
  }
  Buffer buffer;
  buffer.bytes_ = CheckedRoundUp(bytes > 0 ? bytes : 1, kCacheLine);
  buffer.mapped_ = bytes >= kMapFrom;
  void* data = nullptr;
  if (buffer.mapped_) {
    data = mmap(nullptr, static_cast<size_t>(buffer.bytes_), PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) data = nullptr;
  } else {
    data = std::aligned_alloc(kCacheLine, static_cast<size_t>(buffer.bytes_));
  }
  if (data == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat(what, " needs ", bytes, " bytes, which the system refuses"));
  }
  if (buffer.mapped_) {
    // A hint: fewer TLB misses where it is granted, nothing lost where it is not.
    (void)madvise(data, static_cast<size_t>(buffer.bytes_), MADV_HUGEPAGE);
  } else {
    std::memset(data, 0, static_cast<size_t>(buffer.bytes_));
  }
  buffer.data_ = static_cast<uint8_t*>(data);
  return buffer;
}

Buffer Buffer::PartOf(std::shared_ptr<const Buffer> slab, int64_t offset, int64_t bytes) {
  VERNIER_CHECK(offset % kCacheLine == 0 && bytes % kCacheLine == 0);
  VERNIER_CHECK(offset >= 0 && bytes >= 0 && offset <= slab->bytes() - bytes);
  Buffer part;
  part.data_ = slab->data() + offset;
  part.bytes_ = bytes;
  part.slab_ = std::move(slab);
  return part;
}

absl::StatusOr<Buffer> Arena::Allocate(int64_t bytes, absl::string_view what) {
  if (bytes < 1 || bytes > kMostSlabBytes) return Buffer::Allocate(bytes, what);
  const int64_t rounded = CheckedRoundUp(bytes, kCacheLine);
  std::shared_ptr<const Buffer> slab = slab_.lock();
  if (slab == nullptr || rounded > slab->bytes() - used_bytes_) {
    absl::StatusOr<Buffer> next = Buffer::Allocate(kSlabBytes, what);
    if (!next.ok()) return Buffer::Allocate(bytes, what);
    slab = std::make_shared<const Buffer>(*std::move(next));
    slab_ = slab;
    used_bytes_ = 0;
  }
  used_bytes_ += rounded;
  return Buffer::PartOf(std::move(slab), used_bytes_ - rounded, rounded);
}

int64_t CheckedMultiply(int64_t a, int64_t b) {
  int64_t result = 0;
  if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &result)) return -1;
  return result;
}

int64_t CheckedAdd(int64_t a, int64_t b) {
  int64_t result = 0;
  if (a < 0 || b < 0 || __builtin_add_overflow(a, b, &result)) return -1;
  return result;
}

int64_t CheckedRoundUp(int64_t value, int64_t unit) {
  const int64_t raised = CheckedAdd(value, unit - 1);
  return raised < 0 ? -1 : raised / unit * unit;
}

}  // namespace vernier
