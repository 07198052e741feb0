// Any bytes as a safetensors file: refused, or every tensor lies in the file.
#include <cstddef>
#include <cstdint>

#include "engine/checkpoint/safetensors.h"
#include "kernels/base/check.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto* const memory = new vernier::testing::MemoryFile;
  memory->Set(data, size);
  const auto file = vernier::RandomAccessFile::Open(memory->path());
  VERNIER_CHECK(file.ok());
  const auto entries = vernier::ReadSafetensorsHeader(**file);
  if (!entries.ok()) {
    VERNIER_CHECK(!entries.status().message().empty());
    return 0;
  }
  int64_t end = 0;
  for (const vernier::SafetensorsEntry& entry : *entries) {
    VERNIER_CHECK(entry.bytes >= 0 && entry.offset >= end);
    end = entry.offset + entry.bytes;
  }
  VERNIER_CHECK(end <= static_cast<int64_t>(size));
  return 0;
}
