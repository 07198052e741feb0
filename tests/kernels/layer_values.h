// A transformer layer between an embedding and a head, with seeded values: what the tests of the
// backend door run.
//
// Values, no behaviour: the same for every backend, so that results can be compared.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/base/check.h"
#include "kernels/quantize.h"

namespace vernier::testing {

// Shapes and options of the layer; 0 and false leave a part out.
struct LayerSpec {
  const char* name;
  int64_t hidden = 0;
  int64_t intermediate = 0;
  int64_t vocab = 0;
  AttentionShape attention;  // scale 0: 1/sqrt(head_dim)
  KvType kv_type = KvType::kF32;
  NormKind norm = NormKind::kRms;
  ActivationKind activation = ActivationKind::kSilu;
  int rotated = 0;  // dimensions of a head, even
  bool gate = false;
  bool biases = false;
  bool head_norms = false;         // q_norm and k_norm
  bool post_norms = false;         // of AttentionOut and MlpOut
  bool learned_positions = false;  // a second table in Embed
  float embed_scale = 1;
  float soft_cap = 0;
  // Keys and values are the same in any order of summing, in fp32: normalized rows are 1 or -1, and
  // q, k and v have weights that are multiples of 2^-12. For fp32 weights without rotation.
  bool exact = false;
};

// `count` values in (-1, 1), the same for a seed on every machine.
inline std::vector<float> SeededValues(int64_t count, uint32_t seed) {
  std::vector<float> values(count);
  uint32_t state = seed * 2654435761u + 1;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
  }
  return values;
}

struct MatrixValues {
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<float> source;   // [rows, cols] as a checkpoint has it
  std::vector<float> decoded;  // [rows, cols] after the format
  std::vector<float> bias;     // [rows], or empty
};

struct NormValues {
  NormKind kind = NormKind::kRms;
  std::vector<float> weight;
  std::vector<float> bias;  // empty: none
  float epsilon = 1e-5f;
};

// Rows and blocks of 64 columns differ in magnitude by up to 3, so that a scale applied to the
// wrong row or block shows. Rows sum to a few times the input's magnitude at most.
inline MatrixValues MakeMatrix(int64_t rows, int64_t cols, float magnitude, bool bias,
                               uint32_t seed, FormatId format) {
  MatrixValues matrix{.rows = rows, .cols = cols, .source = SeededValues(rows * cols, seed)};
  for (int64_t i = 0; i < rows * cols; ++i) {
    const int64_t row = i / cols, block = i / kNf4Block;
    matrix.source[i] *= magnitude * (0.5f + static_cast<float>((row * 3 + block * 2) % 5) / 4);
  }
  matrix.decoded.resize(rows * cols);
  const absl::StatusOr<QuantizedMatrix> quantized =
      Quantize(SourceOf(matrix.source, rows, cols), format);
  VERNIER_CHECK(quantized.ok());
  Dequantize(*quantized, 0, rows, matrix.decoded.data());
  if (bias) {
    matrix.bias = SeededValues(rows, seed + 1);
    for (float& value : matrix.bias) value *= 0.25f;
  }
  return matrix;
}

inline NormValues MakeNorm(NormKind kind, int64_t size, uint32_t seed) {
  NormValues norm{.kind = kind, .weight = SeededValues(size, seed)};
  for (float& value : norm.weight) value = 1 + value / 4;
  if (kind == NormKind::kLayer) {
    norm.bias = SeededValues(size, seed + 1);
    for (float& value : norm.bias) value /= 4;
  }
  return norm;
}

// Multiples of `step` times 2^-2, the magnitudes of `matrix` forgotten.
inline void MakeExact(float step, MatrixValues* matrix) {
  matrix->source = SeededValues(matrix->rows * matrix->cols, static_cast<uint32_t>(matrix->rows));
  for (float& value : matrix->source) value = std::round(value / step) * step / 4;
  matrix->decoded = matrix->source;
}

// The same with the values that products take which multiply NF4 as whole numbers over 124.115
// (kernels/cpu/digits-inl.h), as what the checkpoint has. Rows that are no whole blocks keep
// theirs.
inline MatrixValues Nf4AsWholeNumbers(MatrixValues matrix) {
  constexpr float kScale = 124.115f;
  for (int64_t first = 0; matrix.cols % kNf4Block == 0 && first < matrix.rows * matrix.cols;
       first += kNf4Block) {
    const std::span<float> block(matrix.decoded.data() + first, kNf4Block);
    float absmax = 0;  // a block's largest value is that of code 0 or 15
    for (const float value : block) absmax = std::max(absmax, std::fabs(value));
    if (absmax == 0) continue;
    for (float& value : block) value = std::round(value / absmax * kScale) / kScale * absmax;
  }
  matrix.source = matrix.decoded;
  return matrix;
}

// All weights of a layer in one format.
struct LayerValues {
  LayerSpec spec;
  FormatId format = FormatId::kF32;
  int64_t context = 0;  // positions that the tables cover

  MatrixValues embed, positions;
  NormValues attention_norm, q_norm, k_norm, attention_post_norm;
  MatrixValues q, k, v, o;
  NormValues mlp_norm, mlp_post_norm;
  MatrixValues gate, up, down;
  NormValues final_norm;
  MatrixValues head;
  std::vector<float> inverse_frequencies;  // [rotated / 2]

  int64_t QueryWidth() const { return int64_t{spec.attention.num_heads} * spec.attention.head_dim; }
  int64_t KvWidth() const { return int64_t{spec.attention.num_kv_heads} * spec.attention.head_dim; }
};

inline LayerValues MakeLayer(LayerSpec spec, FormatId format, int64_t context) {
  if (spec.attention.scale == 0) {
    spec.attention.scale = 1 / std::sqrt(static_cast<float>(spec.attention.head_dim));
  }
  LayerValues layer{.spec = spec, .format = format, .context = context};
  const int64_t hidden = spec.hidden, inner = spec.intermediate;
  const int64_t query = layer.QueryWidth(), kv = layer.KvWidth();
  // Products of normalized inputs are about as large as the magnitude given here. Scores stay
  // small, so that many keys count.
  const auto matrix = [&](int64_t rows, int64_t cols, float magnitude, uint32_t seed) {
    return MakeMatrix(rows, cols, magnitude / std::sqrt(static_cast<float>(cols) / 3), spec.biases,
                      seed, format);
  };
  layer.embed = MakeMatrix(spec.vocab, hidden, 1, false, 10, format);
  if (spec.learned_positions)
    layer.positions = MakeMatrix(context, hidden, 0.5f, false, 20, format);
  layer.attention_norm = MakeNorm(spec.norm, hidden, 30);
  layer.q = matrix(query, hidden, 0.5f, 40);
  layer.k = matrix(kv, hidden, 0.5f, 50);
  layer.v = matrix(kv, hidden, 1, 60);
  layer.o = matrix(hidden, query, 1, 70);
  if (spec.head_norms) {
    layer.q_norm = MakeNorm(NormKind::kRms, spec.attention.head_dim, 80);
    layer.k_norm = MakeNorm(NormKind::kRms, spec.attention.head_dim, 90);
  }
  layer.mlp_norm = MakeNorm(spec.norm, hidden, 100);
  if (spec.gate) layer.gate = matrix(inner, hidden, 1, 110);
  layer.up = matrix(inner, hidden, 1, 120);
  layer.down = matrix(hidden, inner, 1, 130);
  if (spec.post_norms) {
    layer.attention_post_norm = MakeNorm(spec.norm, hidden, 140);
    layer.mlp_post_norm = MakeNorm(spec.norm, hidden, 150);
  }
  layer.final_norm = MakeNorm(spec.norm, hidden, 160);
  layer.head = matrix(spec.vocab, hidden, 2, 170);
  for (int i = 0; i < spec.rotated / 2; ++i) {
    layer.inverse_frequencies.push_back(
        std::pow(1000.0f, -2 * static_cast<float>(i) / static_cast<float>(spec.rotated)));
  }
  if (spec.exact) {
    VERNIER_CHECK(format == FormatId::kF32 && spec.rotated == 0 && !spec.biases);
    for (float& value : layer.embed.source) value = value < 0 ? -1 : 1;
    layer.embed.decoded = layer.embed.source;
    layer.attention_norm = {.kind = NormKind::kRms, .epsilon = 0};
    layer.attention_norm.weight.assign(hidden, 1);
    for (MatrixValues* m : {&layer.q, &layer.k, &layer.v}) MakeExact(0x1p-10f, m);
  }
  return layer;
}

// An fp32 layer with the values that the products of such a backend take; tables of embeddings are
// not multiplied.
inline LayerValues Nf4AsWholeNumbers(LayerValues layer) {
  layer.format = FormatId::kF32;
  for (MatrixValues* table : {&layer.embed, &layer.positions}) table->source = table->decoded;
  for (MatrixValues* matrix :
       {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down, &layer.head}) {
    *matrix = Nf4AsWholeNumbers(std::move(*matrix));
  }
  return layer;
}

}  // namespace vernier::testing
