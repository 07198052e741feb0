#include "engine/checkpoint/random_access_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"

namespace vernier {
absl::StatusOr<std::shared_ptr<const RandomAccessFile>> RandomAccessFile::Open(
    const std::string& path) {
  // Without O_NONBLOCK a named pipe would wait for a writer.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return absl::ErrnoToStatus(errno, path);
  struct stat info = {};
  if (fstat(descriptor, &info) != 0) {
    const int error = errno;
    close(descriptor);
    return absl::ErrnoToStatus(error, path);
  }
  if (!S_ISREG(info.st_mode)) {
    close(descriptor);
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
  }
  return std::shared_ptr<const RandomAccessFile>(new RandomAccessFile(path, descriptor, info));
}

RandomAccessFile::RandomAccessFile(std::string path, int descriptor, const struct stat& opened)
    : path_(std::move(path)), descriptor_(descriptor), opened_(opened) {}

RandomAccessFile::~RandomAccessFile() { close(descriptor_); }

absl::Status RandomAccessFile::Read(int64_t offset, std::span<uint8_t> out) const {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t got = pread(descriptor_, out.data() + done, out.size() - done,
                              offset + static_cast<int64_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::ErrnoToStatus(errno, path_);
    if (got == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(path_, " ends before byte ", offset + static_cast<int64_t>(out.size()),
                       " (it had ", size(), " bytes when it was opened)"));
    }
    done += static_cast<size_t>(got);
  }
  return absl::OkStatus();
}

absl::Status RandomAccessFile::CheckUnchanged() const {
  struct stat now = {};
  if (fstat(descriptor_, &now) != 0) return absl::ErrnoToStatus(errno, path_);
  struct stat at_path = {};
  if (stat(path_.c_str(), &at_path) != 0 || at_path.st_dev != now.st_dev ||
      at_path.st_ino != now.st_ino) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, " was replaced or removed while it was read"));
  }
  if (now.st_size != size() || now.st_mtim.tv_sec != opened_.st_mtim.tv_sec ||
      now.st_mtim.tv_nsec != opened_.st_mtim.tv_nsec) {
    return absl::InvalidArgumentError(absl::StrCat(path_, " was changed while it was read: it has ",
                                                   now.st_size, " bytes, and had ", size(),
                                                   " when it was opened"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadWholeFile(const std::string& path, int64_t limit_bytes) {
  absl::StatusOr<std::shared_ptr<const RandomAccessFile>> file = RandomAccessFile::Open(path);
  if (!file.ok()) return file.status();
  if ((*file)->size() > limit_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " has ", (*file)->size(), " bytes, limit ", limit_bytes));
  }
  std::string text(static_cast<size_t>((*file)->size()), '\0');
  if (absl::Status status =
          (*file)->Read(0, {reinterpret_cast<uint8_t*>(text.data()), text.size()});
      !status.ok()) {
    return status;
  }
  return text;
}

}  // namespace vernier
