// Any bytes as a safetensors file: refused, or every tensor lies in the file, and the matrices that
// it holds packed by any method are refused or decoded.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/checkpoint/packed_matrices.h"
#include "engine/checkpoint/safetensors.h"
#include "kernels/base/check.h"
#include "tests/fuzz/memory_file.h"

namespace vernier {
namespace {

constexpr QuantSettings kSettings[] = {
    {.method = QuantMethod::kBitsAndBytes},
    {.method = QuantMethod::kGptq, .bits = 4, .group = 8, .less_one = true},
    {.method = QuantMethod::kGptq, .bits = 8, .reordered = true},
    {.method = QuantMethod::kAwq, .bits = 4, .group = 2},
    {.method = QuantMethod::kCompressedTensors, .bits = 4, .group = 4},
    {.method = QuantMethod::kCompressedTensors, .bits = 8, .zero_points = false}};

void CheckPacked(const QuantSettings& settings, const std::vector<FileTensor>& tensors) {
  const auto packed = FindPacked(settings, tensors);
  if (!packed.ok()) {
    VERNIER_CHECK(!packed.status().message().empty());
    return;
  }
  for (const PackedMatrix& matrix : packed->matrices) {
    const auto source = OpenPacked(matrix.tensor, matrix.weight_name);
    if (!source.ok()) {
      VERNIER_CHECK(!source.status().message().empty());
      continue;
    }
    VERNIER_CHECK(source->rows > 0 && source->cols > 0);
    std::vector<float> row(static_cast<size_t>(source->cols));
    for (int64_t i = 0; i < source->rows; ++i) {
      VERNIER_CHECK(source->read(i, 1, row.data()).ok());
    }
  }
}

}  // namespace
}  // namespace vernier

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
  std::vector<vernier::FileTensor> tensors;
  for (const vernier::SafetensorsEntry& entry : *entries) {
    VERNIER_CHECK(entry.bytes >= 0 && entry.offset >= end);
    end = entry.offset + entry.bytes;
    tensors.push_back({*file, entry});
  }
  VERNIER_CHECK(end <= static_cast<int64_t>(size));
  for (const vernier::QuantSettings& settings : vernier::kSettings) {
    vernier::CheckPacked(settings, tensors);
  }
  return 0;
}
