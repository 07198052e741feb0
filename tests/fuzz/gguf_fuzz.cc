// Any bytes as a GGUF file: refused, or every tensor can be read, and the model loaded and run, or
// refused.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/checkpoint/gguf_checkpoint.h"
#include "engine/model/model.h"
#include "kernels/base/check.h"
#include "kernels/make_backend.h"
#include "tests/fuzz/memory_file.h"
#include "tests/testing/single_sequence.h"

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

// Into formats with and without blocks, with the tokenizer and the chat template; then a step of
// two tokens. An input is small (fuzz.sh), and a model that loads is no larger than its file
// allows.
void LoadAndRun(const vernier::Checkpoint& checkpoint) {
  const auto backend = vernier::MakeBackend({.kind = "cpu", .threads = 1});
  VERNIER_CHECK(backend.ok());
  const auto model = vernier::LoadModelFrom(checkpoint, "fuzz",
                                            {vernier::DefaultVariant(vernier::FormatId::kInt8),
                                             vernier::DefaultVariant(vernier::FormatId::kNf4)},
                                            backend->get(), nullptr);
  if (!model.ok()) {
    VERNIER_CHECK(!model.status().message().empty());
    return;
  }
  using vernier::testing::SequenceDriver;
  constexpr std::array<int32_t, 2> kIds = {0, 0};
  const int64_t tokens = std::min<int64_t>(kIds.size(), (*model)->config.context);
  const auto driver = SequenceDriver::Create(model->get(), backend->get(),
                                             {.context = tokens, .rows = tokens, .logit_rows = 1});
  VERNIER_CHECK(driver.ok());
  const SequenceDriver::Input input{.ids = std::span(kIds).first(static_cast<size_t>(tokens))};
  for (int variant = 0; variant < 2; ++variant) {
    (*driver)->Reset();
    const auto step = (*driver)->Step(variant, {&input, 1}, SequenceDriver::Logits::kLast, [] {});
    VERNIER_CHECK(step.ok());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto* const memory = new vernier::testing::MemoryFile;
  memory->Set(data, size);
  const auto checkpoint =
      vernier::OpenGgufCheckpoint(memory->path(), vernier::ManifestUse::kIgnore);
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
  LoadAndRun(**checkpoint);
  return 0;
}
