// The door between engine and kernels: the blocks of a transformer, as calls that append to a step.
//
// One thread, the device thread, makes every call of a step:
//
//   backend->Execute(key, batch, [&] { backend->Embed(..); .. backend->LmHead(..);
//   backend->Sample(..); }); absl::Status status = backend->Synchronize();
//
// Calls only append: arguments are read, and results are there, at Synchronize at the latest, so a
// backend may fuse neighbours, record a key's calls once and replay them, or just run them. What
// call arguments point to must live until then. Only allocation, copies to the host and Synchronize
// can fail. Creation calls may come from any one thread at a time, and not during a step.
//
// The activations of a step are the backend's own, [num_rows, ...] fp32 on the CPU:
//   residual [hidden]   q [heads * head_dim]   a [heads * head_dim] (attention's result)   h
//   [intermediate] logits: two buffers [max_logit_rows, vocab] fp32 that keep their values from one
//   Execute to the next
// On the CPU a row's result is a function of that row and its context alone, whatever the batch,
// the chunking and the threads.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/kv_type.h"
#include "kernels/quant_format.h"
#include "kernels/tensor.h"

namespace vernier {

inline constexpr int kBlockTokens = 32;  // tokens (slots) of a KV block
inline constexpr int kLogitBuffers = 2;  // 0: the pass's own; 1: the reference of a paired score
inline constexpr int kMaxTopLogprobs = 20;

// ---- What is made at load, shared by variants, immutable afterwards ----

// A two-dimensional weight in the backend's own packed layout.
struct Weight {
  FormatId format = FormatId::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t bytes = 0;  // as allocated, padding and scales included
  std::shared_ptr<const void> packed;
};

// fp32 values of a norm, a bias or inverse frequencies.
struct Vector {
  int64_t size = 0;
  std::shared_ptr<const float> values;  // [size], in the backend's memory
};

// How x enters products. kBF16 rounds each input to the nearest bf16, with bf16 weights alone; the
// others are of int8 and NF4 weights. Products with any other weights take x in full. kInt8 rounds
// inputs to whole numbers of one scale, their largest magnitude / 127: each 64 inputs on the CPU, a
// row's on CUDA (kernels/cuda/README.md). kLlmInt8, with int8 weights alone, is RoundAsLlmInt8 of
// llm_int8.h.
enum class Activations : uint8_t { kFull, kInt8, kLlmInt8, kBF16 };

// y = x W^T (+ bias).
struct Linear {
  const Weight* weight = nullptr;                // [outputs, inputs]
  const Vector* bias = nullptr;                  // [outputs], or null
  Activations activations = Activations::kFull;  // the same for all that one call multiplies
};

enum class NormKind : uint8_t { kRms, kLayer };
struct Norm {
  NormKind kind = NormKind::kRms;
  const Vector* weight = nullptr;  // [hidden]
  const Vector* bias = nullptr;    // [hidden], or null
  float epsilon = 0;
};

// Rotates the pairs (i, i + size) of each head by position * inverse_frequency[i] ("half-split", as
// Hugging Face stores Llama).
struct Rotary {
  const Vector* inverse_frequencies = nullptr;  // [rotated dimensions / 2]
};

enum class ActivationKind : uint8_t { kSilu, kGeluTanh, kGeluErf };

struct AttentionShape {
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  float scale = 0;  // of q.k, 1/sqrt(head_dim) for most models
  int window = 0;   // attend to the last `window` positions; 0: all
};

// ---- A step ----

// The rows of one sequence in a batch: contiguous, ascending positions.
struct SequenceRows {
  int32_t first_row = 0;
  int32_t num_rows = 0;
  int32_t first_block = 0;  // its block table is Batch::blocks[first_block .. + num_blocks)
  int32_t num_blocks = 0;   // covers every position up to its last row's
};

// Flat arrays of one pass, prefill and decode rows alike. Owned by the engine, reused step after
// step.
struct Batch {
  int num_rows = 0;
  std::span<const int32_t> ids;        // [num_rows] token ids
  std::span<const int32_t> positions;  // [num_rows] from 0; a row attends to positions 0..own
  std::span<const int32_t> slots;  // [num_rows] block * kBlockTokens + offset, where its k and v go
  std::span<const SequenceRows> sequences;  // every row is in one
  std::span<const int32_t> blocks;          // block tables of `sequences`, one after the other
  std::span<const int32_t> logit_rows;  // [num_logits] rows whose logits LmHead makes, ascending
};

// Names a sequence of calls that is the same each time but for the batch: a backend may record it.
struct StepKey {
  int variant = 0;
  int num_rows = 0;
};

// residual = scale * table[id] (+ positions[position]).
struct EmbedArgs {
  const Weight* table = nullptr;      // [vocab, hidden]
  const Weight* positions = nullptr;  // [context, hidden], or null
  float scale = 1;
};

// x = norm(residual); q, k, v = linear(x); rotary on q and k; k and v into their slots of `layer`.
struct AttentionInArgs {
  int layer = 0;
  AttentionShape shape;
  KvType kv_type = KvType::kF16;
  Norm norm;
  Linear q, k, v;
  const Rotary* rotary = nullptr;  // null: positions are learned
  const Norm* q_norm = nullptr;    // over each head, before rotary; null in most models
  const Norm* k_norm = nullptr;
};

struct AttentionArgs {
  int layer = 0;
  AttentionShape shape;
  KvType kv_type = KvType::kF16;
};

// residual += post_norm(linear(input)); input is `a` for AttentionOut, `h` for MlpOut.
struct ResidualArgs {
  Linear linear;
  const Norm* post_norm = nullptr;  // null in most models
};

// x = norm(residual); h = act(gate(x)) * up(x), or act(up(x)) without a gate.
struct MlpInArgs {
  Norm norm;
  Linear gate;  // weight null: no gate
  Linear up;
  ActivationKind activation = ActivationKind::kSilu;
};

// logits[buffer][i] = linear(norm(residual[logit_rows[i]])), tanh-capped at soft_cap where that is
// > 0.
struct LmHeadArgs {
  Norm norm;
  Linear linear;
  float soft_cap = 0;
  int buffer = 0;
};

enum class RowStatus : uint8_t { kOk, kNan, kInf };  // of a row's logits; +Inf or all -Inf is kInf

struct TokenLogprob {
  int32_t id = 0;
  float logprob = 0;
};

// Natural logarithms of the probabilities under the raw logits: before penalties, bias and
// temperature.
struct TopLogprobs {
  int count = 0;
  TokenLogprob entries[kMaxTopLogprobs];  // descending; ties by lower id
};

struct TokenCount {
  int32_t id = 0;
  int32_t prompt = 0;     // times in the prompt
  int32_t generated = 0;  // times in the output so far
};

struct LogitBias {
  int32_t id = 0;
  float bias = 0;
};

// One token to draw. In this order: repetition, frequency and presence penalties (OpenAI's and
// CTRL's formulas as vLLM applies them), bias, banned ids, temperature, min_p, top_k, top_p, then
// the largest of logit + Gumbel noise. The noise is a function of (seed, position, token) alone
// through Philox4x32-10 (Salmon et al. 2011), so that equal logits give equal tokens in any batch,
// slot or variant. Temperature 0 is the argmax; ties go to the lower id.
struct SampleRow {
  int logit_index = 0;  // into Batch::logit_rows
  float temperature = 0;
  int top_k = 0;  // 0: all
  float top_p = 1;
  float min_p = 0;
  float frequency_penalty = 0;
  float presence_penalty = 0;
  float repetition_penalty = 1;
  uint64_t seed = 0;
  uint64_t position = 0;  // of the drawn token in its sequence
  int top_logprobs =
      -1;  // -1: no log-probability; 0: the chosen token's alone; else that many alternatives
  std::span<const TokenCount> counts;  // tokens that any penalty touches
  std::span<const LogitBias> biases;
  std::span<const int32_t> banned;  // never drawn (end of sequence before min_tokens)
};

struct SampleResult {
  RowStatus status = RowStatus::kOk;
  int32_t id = 0;
  float logprob = 0;
  TopLogprobs top;
};

// What position `logit_index` says of a given next token.
struct ScoreRow {
  int logit_index = 0;  // into Batch::logit_rows
  int32_t target = 0;
  int top_logprobs = 0;
};

// Natural logarithms, nats; the reference fields are set when a reference buffer was given. KL over
// the full vocabulary.
struct ScoreResult {
  RowStatus status = RowStatus::kOk;
  float logprob = 0;  // of the target
  int32_t top1 = 0;
  float margin = 0;  // best minus second best logit
  RowStatus reference_status = RowStatus::kOk;
  float reference_logprob = 0;
  int32_t reference_top1 = 0;
  float reference_margin = 0;
  float kl_from_reference = 0;  // KL(reference || this)
  float kl_to_reference = 0;    // KL(this || reference)
  float top_k_overlap = 0;      // shared ids of the two top-k sets / k
  TopLogprobs top;
};

struct ScoreArgs {
  int buffer = 0;
  int reference_buffer = -1;  // -1: none; row i is compared with row i
  int overlap_k = 10;
  std::span<const ScoreRow> rows;
  std::span<ScoreResult> results;  // [rows]
};

// Everything a step needs, allocated once: nothing is allocated in a step.
struct WorkspacePlan {
  int64_t max_rows = 0;  // of one batch
  int64_t max_logit_rows = 0;
  int64_t max_context = 0;  // tokens of one sequence
  int64_t hidden = 0;
  int64_t intermediate = 0;
  int64_t vocab = 0;
  int64_t num_layers = 0;
  AttentionShape attention;
  int64_t kv_blocks = 0;
  KvType widest_kv = KvType::kF16;  // of most bytes a block
};

// Bytes of the keys or values of one head in a block: [kBlockTokens][head_dim] of `type`, then
// [kBlockTokens] fp32 scales where it has them, so that whoever reads a head reads one run.
constexpr int64_t KvHeadBytes(const AttentionShape& shape, KvType type) {
  const KvTypeTraits& traits = TraitsOf(type);
  return int64_t{kBlockTokens} *
         (int64_t{shape.head_dim} * traits.value_bytes + traits.scale_bytes);
}

// Bytes of one block: [layer][K|V][kv_head] of KvHeadBytes.
constexpr int64_t KvBlockBytes(int64_t layers, const AttentionShape& shape, KvType type) {
  return layers * 2 * shape.num_kv_heads * KvHeadBytes(shape, type);
}

struct BackendMemory {
  int64_t kv_bytes = 0;
  int64_t workspace_bytes = 0;
};

enum class Activation : uint8_t {
  kResidual,
  kQuery,
  kAttention,
  kHidden,
  kLogits,
  kReferenceLogits
};

class Backend {
 public:
  virtual ~Backend() = default;

  // One line for logs and tables: "cpu avx512 (vnni, bf16), 2 threads".
  virtual std::string Describe() const = 0;
  virtual int Threads() const = 0;

  // Packs one weight into each of `formats`, reading the source once. Never holds more than the
  // results, one format's canonical copy and a chunk of fp32 rows. Errors: the source's;
  // RESOURCE_EXHAUSTED with the bytes wanted.
  virtual absl::StatusOr<std::vector<Weight>> CreateWeights(const WeightSource& source,
                                                            std::span<const FormatId> formats) = 0;
  virtual absl::StatusOr<Vector> CreateVector(std::span<const float> values) = 0;
  // The values that `weight` holds, to be packed into other formats: of scalar formats (fp32, fp16,
  // bf16) alone, where they are what was packed, rounded to the format. Null where the backend
  // cannot tell. The source keeps the packed bytes alive; any thread, also while a step computes.
  virtual std::optional<WeightSource> Values(const Weight& weight) const;

  // Whether AttentionIn and Attention take `type`; those without scales always.
  virtual bool HasKvType(KvType type) const;
  // Whether products with weights of `format` take `activations`; kFull always.
  virtual bool HasActivations(Activations activations, FormatId format) const;

  // Called once, after the weights. RESOURCE_EXHAUSTED with the bytes wanted when memory is short.
  virtual absl::Status CreateWorkspace(const WorkspacePlan& plan) = 0;
  virtual BackendMemory Memory() const = 0;

  // What these KV blocks hold will not be read again. They are in no step that still runs. A
  // backend that looks for mistakes makes them NaN.
  virtual void Forget(std::span<const int32_t> blocks) { (void)blocks; }

  // Runs the calls that `forward` makes on `batch`. REQUIRES: a workspace; batch within its plan.
  virtual void Execute(const StepKey& key, const Batch& batch,
                       absl::FunctionRef<void()> forward) = 0;
  // Waits for everything executed; an error is the device's and fails the step.
  virtual absl::Status Synchronize() = 0;

  // The calls of a step; only inside Execute's `forward`.
  virtual void Embed(const EmbedArgs& args) = 0;
  virtual void AttentionIn(const AttentionInArgs& args) = 0;
  virtual void Attention(const AttentionArgs& args) = 0;
  virtual void AttentionOut(const ResidualArgs& args) = 0;
  virtual void MlpIn(const MlpInArgs& args) = 0;
  virtual void MlpOut(const ResidualArgs& args) = 0;
  virtual void LmHead(const LmHeadArgs& args) = 0;
  // From logits buffer 0. rows.size() == results.size().
  virtual void Sample(std::span<const SampleRow> rows, std::span<SampleResult> results) = 0;
  virtual void Score(const ScoreArgs& args) = 0;

  // Copies an activation of the last executed batch to the host, row-major; for tests and
  // calibration. FAILED_PRECONDITION when `out` is not its size.
  virtual absl::Status CopyActivation(Activation which, std::span<float> out) = 0;
};

inline std::optional<WeightSource> Backend::Values(const Weight&) const { return std::nullopt; }
inline bool Backend::HasActivations(Activations activations, FormatId) const {
  return activations == Activations::kFull;
}
inline bool Backend::HasKvType(KvType type) const { return TraitsOf(type).scale_bytes == 0; }

}  // namespace vernier
