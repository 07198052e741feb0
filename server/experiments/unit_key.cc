#include "server/experiments/unit_key.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <random>

#include "absl/cleanup/cleanup.h"

namespace vernier {

absl::StatusOr<UnitHashKey> ReadUnitKey(const std::string& path) {
  UnitHashKey key;
  const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (descriptor < 0) return absl::ErrnoToStatus(errno, path);
  const auto close_it = absl::MakeCleanup([&] { close(descriptor); });
  if (read(descriptor, &key, sizeof(key)) == sizeof(key)) return key;
  // A new one: hashes of before, if any, are not found again.
  std::random_device random;
  for (uint64_t* half : {&key.low, &key.high}) *half = uint64_t{random()} << 32 | random();
  if (pwrite(descriptor, &key, sizeof(key), 0) != sizeof(key) || fsync(descriptor) != 0) {
    return absl::ErrnoToStatus(errno, path);
  }
  return key;
}

}  // namespace vernier
