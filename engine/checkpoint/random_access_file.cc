#include "engine/checkpoint/random_access_file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace vernier {
namespace {

// Large enough that a call costs nothing beside the copy, small enough to stay in the cache.
constexpr int64_t kHashChunkBytes = 256 << 10;

struct DigestDeleter {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

}  // namespace

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
  return std::shared_ptr<const RandomAccessFile>(
      new RandomAccessFile(path, descriptor, info.st_size));
}

RandomAccessFile::RandomAccessFile(std::string path, int descriptor, int64_t size)
    : path_(std::move(path)), descriptor_(descriptor), size_(size) {}

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
                       " (it had ", size_, " bytes when it was opened)"));
    }
    done += static_cast<size_t>(got);
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

absl::StatusOr<std::string> Sha256Of(
    std::span<const std::shared_ptr<const RandomAccessFile>> files) {
  const std::unique_ptr<EVP_MD_CTX, DigestDeleter> context(EVP_MD_CTX_new());
  if (context == nullptr || EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1) {
    return absl::InternalError("OpenSSL has no SHA-256");
  }
  std::vector<uint8_t> chunk(kHashChunkBytes);
  for (const auto& file : files) {
    for (int64_t offset = 0; offset < file->size(); offset += kHashChunkBytes) {
      const std::span<uint8_t> part(
          chunk.data(), static_cast<size_t>(std::min(kHashChunkBytes, file->size() - offset)));
      if (absl::Status status = file->Read(offset, part); !status.ok()) return status;
      if (EVP_DigestUpdate(context.get(), part.data(), part.size()) != 1) {
        return absl::InternalError("OpenSSL failed to hash");
      }
    }
  }
  uint8_t digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  if (EVP_DigestFinal_ex(context.get(), digest, &size) != 1) {
    return absl::InternalError("OpenSSL failed to hash");
  }
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest), static_cast<size_t>(size)));
}

}  // namespace vernier
