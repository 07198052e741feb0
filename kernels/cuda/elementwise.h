// Everything between the matrix products of a layer: embeddings, norms with the residual's
// addition, heads with their rotation and their place in the cache, activations, logits.
//
// Biases of products are added here, in fp32. All pointers are device memory; work is queued on
// `stream`, the launch's error is returned, and what fails on the device shows at the stream's next
// synchronization. Any thread may call.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/activation.h"
#include "kernels/cuda/device_types.h"
#include "kernels/cuda/kv_layer.h"

namespace vernier::cuda {

struct EmbedParameters {
  StepArrays step;
  DeviceWeight table;      // [vocab, hidden]
  DeviceWeight positions;  // [context, hidden]; codes null: none
  float scale = 1;
  float* residual = nullptr;  // [rows, hidden]
};
cudaError_t LaunchEmbed(const EmbedParameters& p, int rows, cudaStream_t stream);

// Rows of int8 x as products take them (Activation::kInt8 of gemm_plan.h): a scale a row, its
// largest magnitude / 127. A row that is not finite has a scale that is not, so that what it
// multiplies shows it.
struct Int8Rows {
  int8_t* codes = nullptr;  // [rows, width], in the order of Int8XPosition; null: not wanted
  float* scales = nullptr;  // [rows]
};
// Of `from`, whose width is a multiple of 16.
cudaError_t LaunchRoundToInt8(const Matrix& from, const Int8Rows& to, int64_t width, int rows,
                              cudaStream_t stream);

// Whether LaunchEightsToInt8 (gate_eights.cu) takes them, as LaunchRoundToInt8 then does: short
// rows of fp16.
bool TakesEightsToInt8(const Matrix& from, int64_t width);
cudaError_t LaunchEightsToInt8(const Matrix& from, const Int8Rows& to, int64_t width, int rows,
                               cudaStream_t stream);

// residual += post_norm(y + y_bias), then x = norm(residual); either half may be left out.
struct AddNormParameters {
  int64_t hidden = 0;
  float* residual = nullptr;  // [.., hidden]
  Matrix y;                   // [rows, hidden]; data null: nothing is added
  const float* y_bias = nullptr;
  DeviceNorm post_norm;
  DeviceNorm norm;
  Matrix x;       // [rows, hidden]; data null: nothing is normalized, or to int8
  Int8Rows int8;  // x as int8, instead; hidden is a multiple of 16 then
  // Row i of x is of residual row chosen[i]; null: row i. Not together with y.
  const int32_t* chosen = nullptr;
};
cudaError_t LaunchAddNorm(const AddNormParameters& p, int rows, cudaStream_t stream);

// Norms and rotates heads; q goes to `query`, rounded too, k and v into their slots of the cache.
struct HeadsParameters {
  HeadShape shape;
  StepArrays step;
  Matrix q, k, v;  // what the products made
  const float *q_bias = nullptr, *k_bias = nullptr, *v_bias = nullptr;
  DeviceNorm q_norm, k_norm;
  const float* inverse_frequencies = nullptr;
  int rotated_pairs = 0;   // 0: no rotation
  float* query = nullptr;  // [rows, heads * head_dim]; null: not wanted
  Matrix rounded_query;    // the same times QueryScale of attention.h; data null: not wanted
  KvLayer cache;
  bool by_one_kernel =
      false;  // whatever the number of rows: norms sum in another order in the other
};
// Whether LaunchManyHeads (many_heads.cu) takes them: what products made in 16 bits, whole heads
// rotated or none, heads of 64, 128 or 256 dimensions, norms without a mean.
bool TakesManyHeads(const HeadsParameters& p);
cudaError_t LaunchManyHeads(const HeadsParameters& p, int rows, cudaStream_t stream);
// Either kernel, by the number of rows.
cudaError_t LaunchHeads(const HeadsParameters& p, int rows, cudaStream_t stream);

// h = act(gate + bias) * (up + bias), or act(up + bias).
struct ActivateParameters {
  Gating kind = Gating::kSilu;
  int64_t width = 0;
  Matrix gate, up;  // gate.data null: no gate
  const float *gate_bias = nullptr, *up_bias = nullptr;
  Matrix out;
  Int8Rows int8;  // instead, where ActivatesToInt8
};
// Whether what `p` reads can be left as int8: a gate, no biases, rows that a block can hold.
bool ActivatesToInt8(const ActivateParameters& p);
// Whether LaunchGateEights (gate_eights.cu) takes them, as LaunchActivate then does: a gate, no
// biases, all of one 16-bit type in whole and aligned eights. To int8 too, where ActivatesToInt8.
bool TakesEights(const ActivateParameters& p);
cudaError_t LaunchGateEights(const ActivateParameters& p, int rows, cudaStream_t stream);
cudaError_t LaunchActivate(const ActivateParameters& p, int rows, cudaStream_t stream);

// logits = soft_cap tanh((y + bias) / soft_cap), or y + bias; y may be the logits themselves.
struct LogitsParameters {
  int64_t vocab = 0;
  Matrix y;
  const float* bias = nullptr;
  float soft_cap = 0;
  float* logits = nullptr;  // [rows, vocab]
};
cudaError_t LaunchLogits(const LogitsParameters& p, int rows, cudaStream_t stream);

// The same values in another type.
cudaError_t LaunchConvert(const Matrix& from, const Matrix& to, int64_t width, int rows,
                          cudaStream_t stream);

}  // namespace vernier::cuda
