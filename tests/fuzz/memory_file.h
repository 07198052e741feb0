// A regular file in memory whose bytes change from one fuzz input to the next.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/base/check.h"

namespace vernier::testing {

// One thread.
class MemoryFile {
 public:
  MemoryFile() : descriptor_(memfd_create("fuzz", MFD_CLOEXEC)) {
    VERNIER_CHECK(descriptor_ >= 0);
    path_ = "/proc/self/fd/" + std::to_string(descriptor_);
  }
  ~MemoryFile() { close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  const std::string& path() const { return path_; }
  void Set(const uint8_t* bytes, size_t size) {
    VERNIER_CHECK(ftruncate(descriptor_, 0) == 0);
    VERNIER_CHECK(pwrite(descriptor_, bytes, size, 0) == static_cast<ssize_t>(size));
  }

 private:
  const int descriptor_;
  std::string path_;
};

}  // namespace vernier::testing
