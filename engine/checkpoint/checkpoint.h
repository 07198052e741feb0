// Opens a model as people have it: a Hugging Face folder (safetensors) or a GGUF file, behind
// canonical tensor names.
//
// Canonical names, used by every rule, message and report:
//   embed · position_embed · final_norm.{weight,bias} · lm_head[.bias]
//   layers.{i}.attention_norm.{weight,bias} · layers.{i}.attention.{q,k,v,o}[.bias]
//   layers.{i}.mlp_norm.{weight,bias} · layers.{i}.mlp.{gate,up,down}[.bias]
//   layers.{i}.attention.{q,k}_norm.weight · layers.{i}.{attention,mlp}_post_norm.weight
// Matrices are [outputs, inputs] whatever the file's orientation; fused ones are split, GGUF's
// rotary permutation undone. Files are hostile: every size is checked, nothing larger than the file
// is allocated, and files are read, never mapped.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/manifest.h"
#include "engine/checkpoint/model_config.h"
#include "engine/text/tokenizer_source.h"
#include "kernels/tensor.h"

namespace vernier {

struct TensorInfo {
  std::string name;       // canonical; the file's own for tensors that no architecture row uses
  std::string file_name;  // as the file calls it
  std::string type;       // as the file stores it, lower case: "bf16", "q4_1", "gptq-int4"
  std::vector<int64_t> shape;
  int64_t bytes = 0;  // in the file
};

// What variants are made from: named tensors and the config that says how they belong together.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual const ModelConfig& config() const = 0;
  virtual const std::vector<TensorInfo>& tensors() const = 0;
  virtual bool Has(const std::string& name) const = 0;
  // Keeps the tensor's values while the source lives; rows are decoded on demand, from any thread.
  virtual absl::StatusOr<WeightSource> OpenMatrix(const std::string& name) const = 0;
  virtual absl::StatusOr<std::vector<float>> ReadVector(const std::string& name) const = 0;
};

class Checkpoint : public TensorSource {
 public:
  // `path`: a folder with config.json, a .gguf file, or a name of random_checkpoint.h. NOT_FOUND;
  // INVALID_ARGUMENT for a broken file, naming the tensor or key, the value and what was expected,
  // and for a name that random_checkpoint.h does not know; UNIMPLEMENTED naming an
  // architecture, tensor type or file version that is not supported. Where a manifest (manifest.h)
  // lies beside the model and is used, names and sizes are compared with it here, each tensor's
  // bytes when they are read, and whole files by WeightsSha256.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& path,
                                                          ManifestUse use = ManifestUse::kVerify);

  // Weight type before us: "bf16", or "q4_1 (dequantized)" when most bytes of a GGUF file are
  // quantized, or any matrix of a Hugging Face folder is.
  virtual std::string source() const = 0;
  virtual bool source_is_quantized() const = 0;
  virtual int64_t disk_bytes() const = 0;
  // Null when there is none, or it is not used.
  virtual const Manifest* manifest() const = 0;
  // A manifest of what is there, without golden tokens; reads everything twice.
  virtual absl::StatusOr<Manifest> MakeManifest() const = 0;
  // SHA-256 of the weight file, 64 hex digits; of several, of their digests in order, a line each
  // (`sha256sum FILES | cut -d' ' -f1 | sha256sum`), so that they can be read side by side. Reads
  // them. INVALID_ARGUMENT naming a file, text files too, whose bytes are not the manifest's.
  virtual absl::StatusOr<std::string> WeightsSha256() const = 0;
  // INVALID_ARGUMENT naming a file that was changed, cut or replaced since Open: what was read
  // until now need not be one model.
  virtual absl::Status CheckUnchanged() const = 0;
  // What the tokenizer is made from; tokenizer_source().kind == kNone with a reason when there is
  // none.
  virtual const TokenizerSource& tokenizer_source() const = 0;

  // Reads the tensor's bytes once. INVALID_ARGUMENT naming the tensor and its file when the bytes
  // are not the manifest's.
  absl::StatusOr<WeightSource> OpenMatrix(const std::string& name) const override = 0;
  absl::StatusOr<std::vector<float>> ReadVector(const std::string& name) const override = 0;
};

}  // namespace vernier
