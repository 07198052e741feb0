// Any bytes as a GGUF file: refused, or every tensor can be read and the tokenizer made or refused.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/checkpoint/gguf_checkpoint.h"
#include "engine/text/tokenizer.h"
#include "kernels/base/check.h"
#include "tests/fuzz/memory_file.h"

namespace {

void ReadTensor(const vernier::Checkpoint& checkpoint, const vernier::TensorInfo& tensor) {
  if (tensor.shape.size() == 1) {
    const auto values = checkpoint.ReadVector(tensor.name);
    VERNIER_CHECK(values.ok() && static_cast<int64_t>(values->size()) == tensor.shape[0]);
    return;
  }
  const auto source = checkpoint.OpenMatrix(tensor.name);
  VERNIER_CHECK(source.ok() && source->rows == tensor.shape[0] && source->cols == tensor.shape[1]);
  std::vector<float> row(static_cast<size_t>(source->cols));
  VERNIER_CHECK(source->read(0, 1, row.data()).ok());
  VERNIER_CHECK(source->read(source->rows - 1, 1, row.data()).ok());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto* const memory = new vernier::testing::MemoryFile;
  memory->Set(data, size);
  const auto checkpoint = vernier::OpenGgufCheckpoint(memory->path());
  if (!checkpoint.ok()) {
    VERNIER_CHECK(!checkpoint.status().message().empty());
    return 0;
  }
  int64_t bytes = 0;
  for (const vernier::TensorInfo& tensor : (*checkpoint)->tensors()) {
    bytes += tensor.bytes;
    if ((*checkpoint)->Has(tensor.name)) ReadTensor(**checkpoint, tensor);
  }
  VERNIER_CHECK(bytes <= static_cast<int64_t>(size));
  VERNIER_CHECK((*checkpoint)->config().Parameters() > 0);
  const auto tokenizer = vernier::Tokenizer::Create((*checkpoint)->tokenizer_source());
  if (tokenizer.ok()) VERNIER_CHECK((*tokenizer)->vocab_size() > 0);
  return 0;
}
