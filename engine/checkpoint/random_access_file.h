// A regular file read at given offsets: never mapped, so that a file that shrinks is an error and
// no signal.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace vernier {

// Thread-safe: reads do not move a common position.
class RandomAccessFile {
 public:
  // NOT_FOUND when there is none; INVALID_ARGUMENT when it is not a regular file;
  // PERMISSION_DENIED.
  static absl::StatusOr<std::shared_ptr<const RandomAccessFile>> Open(const std::string& path);
  ~RandomAccessFile();
  RandomAccessFile(const RandomAccessFile&) = delete;
  RandomAccessFile& operator=(const RandomAccessFile&) = delete;

  const std::string& path() const { return path_; }
  int64_t size() const { return opened_.st_size; }  // bytes, when it was opened

  // Fills `out` from byte `offset`. INVALID_ARGUMENT naming the file when it ends before.
  absl::Status Read(int64_t offset, std::span<uint8_t> out) const;
  // INVALID_ARGUMENT naming the file when its size or time of change is no longer what it was when
  // it was opened, or when another file has taken its path.
  absl::Status CheckUnchanged() const;

 private:
  RandomAccessFile(std::string path, int descriptor, const struct stat& opened);

  const std::string path_;
  const int descriptor_;
  const struct stat opened_;
};

// The whole file. INVALID_ARGUMENT when it is larger than `limit_bytes`; else as Open and Read.
absl::StatusOr<std::string> ReadWholeFile(const std::string& path, int64_t limit_bytes);

}  // namespace vernier
