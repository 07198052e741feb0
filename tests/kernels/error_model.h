// Bounds on how far a backend's activations may lie from the reference's, derived from the lengths
// of its sums and its unit roundoffs.
//
// First-order forward error analysis (Higham, Accuracy and Stability of Numerical Algorithms,
// chapters 3 and 4). u is Precision::accumulate. A sum of n products in any order errs by at most
// n u times the sum of their magnitudes; the reference sums in double and rounds a result once.
// Each array is carried in double with one bound for all its elements; magnitudes are the largest
// that the data has, not assumed.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/kernels/backends_under_test.h"
#include "tests/kernels/layer_values.h"

namespace vernier::testing {

// [values.size() / width, width]: a backend's value may lie error + relative |value| from the
// reference's.
struct Tracked {
  int64_t width = 0;
  std::vector<double> values;
  double error = 0;
  double relative = 0;

  double Bound() const { return error + relative * Largest(); }

  int64_t rows() const { return static_cast<int64_t>(values.size()) / width; }
  double Largest() const {
    double largest = 0;
    for (const double value : values) largest = std::max(largest, std::fabs(value));
    return largest;
  }
  // The largest Euclidean norm of a run of `part` values.
  double LargestNorm(int64_t part) const {
    double largest = 0;
    for (size_t i = 0; i < values.size(); i += part) {
      double squares = 0;
      for (int64_t j = 0; j < part; ++j) squares += values[i + j] * values[i + j];
      largest = std::max(largest, squares);
    }
    return std::sqrt(largest);
  }
};

inline Tracked Track(const std::vector<float>& values, int64_t width, double error) {
  return {width, {values.begin(), values.end()}, error, 0};
}

class ErrorModel {
 public:
  // `format` is that of the weights.
  ErrorModel(const Precision& precision, FormatId format) : p_(precision), format_(format) {}

  const Precision& precision() const { return p_; }

  // Embed: a decoded weight is exact but for Precision::weight; a scale is one product, a learned
  // position one addition.
  double EmbedError(const LayerValues& layer, double largest) const {
    const double scale = layer.spec.embed_scale != 1 ? p_.accumulate : 0;
    const double position = layer.spec.learned_positions ? 2 * p_.accumulate : 0;
    return (p_.weight + scale + position) * largest;
  }

  // y = (x - mean) s w + b, s = 1 / sqrt(mean square + epsilon), over runs of the norm's size.
  //   s: n squares are added (n u), divided, epsilon added; the root halves that and rounds, the
  //   reciprocal rounds: (n / 2 + 4) u, all relative. Then three products or sums, and b.
  //   mean (layer norm): (n + 2) u times the mean |x|; s does not feel it, since deviations add to
  //   0. an input error e moves x - mean by e (2e with a mean) and s by s e relatively at most.
  Tracked Norm(const NormValues& norm, const Tracked& in) const {
    const auto n = static_cast<int64_t>(norm.weight.size());
    const bool centered = norm.kind == NormKind::kLayer;
    Tracked out{in.width, std::vector<double>(in.values.size())};
    double scale = 0, normalized = 0, weight = 0, bias = 0, mean_magnitude = 0;
    for (size_t first = 0; first < in.values.size(); first += n) {
      const double* x = in.values.data() + first;
      double mean = 0, magnitude = 0, squares = 0;
      for (int64_t i = 0; centered && i < n; ++i) {
        mean += x[i] / static_cast<double>(n);
        magnitude += std::fabs(x[i]) / static_cast<double>(n);
      }
      mean_magnitude = std::max(mean_magnitude, magnitude);
      for (int64_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
      const double s = 1 / std::sqrt(squares / static_cast<double>(n) + norm.epsilon);
      scale = std::max(scale, s);
      for (int64_t i = 0; i < n; ++i) {
        const double b = norm.bias.empty() ? 0 : norm.bias[i];
        out.values[first + i] = (x[i] - mean) * s * norm.weight[i] + b;
        normalized = std::max(normalized, std::fabs(x[i] - mean) * s);
        weight = std::max<double>(weight, std::fabs(norm.weight[i]));
        bias = std::max(bias, std::fabs(b));
      }
    }
    const double u = p_.accumulate;
    const double length = static_cast<double>(n);
    const double moved = in.Bound() * ((centered ? 2 : 1) + normalized);
    out.error =
        weight * scale * (moved + (length + 2) * u * mean_magnitude) + (length / 2 + 9) * u * bias;
    out.relative = (length / 2 + 9) * u + p_.activation;
    return out;
  }

  // y = x W^T (+ b): n products, the int8 row scale and the reference's rounding are (n + 3) u of
  // |w| . |x|, and so is what x errs relatively; what it errs absolutely, in whole numbers too,
  // grows by the largest row sum of |w|. The bias, its addition and the store round the result.
  Tracked Product(const MatrixValues& matrix, const Tracked& x) const {
    Tracked y{matrix.rows, std::vector<double>(x.rows() * matrix.rows)};
    double row_sum = 0, magnitude = 0, bias = 0;
    for (int64_t row = 0; row < matrix.rows; ++row) {
      const float* w = matrix.decoded.data() + row * matrix.cols;
      const double b = matrix.bias.empty() ? 0 : matrix.bias[row];
      double sum = 0;
      for (int64_t k = 0; k < matrix.cols; ++k) sum += std::fabs(w[k]);
      row_sum = std::max(row_sum, sum);
      bias = std::max(bias, std::fabs(b));
      for (int64_t m = 0; m < x.rows(); ++m) {
        double product = 0, size = 0;
        for (int64_t k = 0; k < matrix.cols; ++k) {
          const double term = w[k] * x.values[m * matrix.cols + k];
          product += term;
          size += std::fabs(term);
        }
        y.values[m * matrix.rows + row] = product + b;
        magnitude = std::max(magnitude, size);
      }
    }
    const double roundings = static_cast<double>(matrix.cols + 3) * p_.accumulate + p_.weight +
                             p_.ProductError(format_, matrix.cols);
    const double digits =
        p_.MultipliesDigits(format_, matrix.cols) ? p_.digit * (x.Largest() + x.Bound()) : 0;
    y.error = row_sum * (x.error + digits) + magnitude * (x.relative + roundings) +
              2 * p_.accumulate * bias;
    y.relative = 2 * p_.accumulate + p_.activation;
    return y;
  }

  // a' = a cos - b sin, b' = b cos + a sin. The pair's errors meet at most as sqrt(2); the angle is
  // an fp32 product, so cosine and sine err by u times the angle, and each rounds; then two
  // products and a sum. Norms of heads stay, values may grow by sqrt(2), so only the bound is
  // moved.
  void Rotate(double largest_angle, Tracked* heads) const {
    heads->error = std::sqrt(2.0) * heads->Bound() +
                   2 * heads->Largest() * ((largest_angle + 4) * p_.accumulate + p_.activation);
    heads->relative = 0;
  }

  // a = softmax(scale q K^T) V over at most `keys` keys of heads of `dim`.
  //   a score errs by scale (d + 3) u |q| |k| for its sum and the scale of its key, and by
  //   scale sqrt(d) (e_q |k| + e_k |q|) for its inputs (Cauchy-Schwarz; norms are those of a head).
  //   a weight errs relatively by twice that (itself and the sum it is divided by), by the rounding
  //   of the exponent's argument (u times the spread of scores) and of exp, and by the sum of
  //   `keys` weights with three roundings for each block that rescales it; the same for the sum of
  //   values, whose weights are multiplied with the scales of values first. One key has weight 1
  //   whatever its score.
  double AttentionError(const AttentionShape& shape, int64_t keys, const Tracked& q,
                        const Tracked& k, const Tracked& v) const {
    const double u = p_.accumulate, dim = shape.head_dim;
    const double stored = v.Bound() + v.Largest() * (3 * u + p_.activation);
    if (keys == 1) return stored;
    const double q_norm = q.LargestNorm(shape.head_dim), k_norm = k.LargestNorm(shape.head_dim);
    const double given = std::sqrt(dim) * (q.Bound() * k_norm + k.Bound() * q_norm);
    const double score_error = shape.scale * ((dim + 3) * u * q_norm * k_norm + given);
    const double spread = 2 * shape.scale * q_norm * k_norm;
    const double blocks = static_cast<double>(keys) / kBlockTokens + 1;
    const double sums = 2 * (static_cast<double>(keys) + 3 * blocks + spread + 9) * u;
    return stored + v.Largest() * (2 * score_error + sums);
  }

  // h = act(g) u or act(u), element by element. An activation's slope is at most 1.13 and it is no
  // larger than its argument; its evaluation errs relatively by 20 u and, because an exponential
  // takes a rounded argument, by 8 u times that argument: x for SiLU, x^2 for the exact GELU,
  // 1.6 (x + 0.045 x^3) for the tanh form.
  double ActivationError(ActivationKind kind, const Tracked& gate, const Tracked* up) const {
    const double gate_bound = gate.Bound(), up_bound = up == nullptr ? 0 : up->Bound();
    double largest = 0;
    for (size_t i = 0; i < gate.values.size(); ++i) {
      const double x = std::fabs(gate.values[i]);
      const double y = up == nullptr ? 1 : std::fabs(up->values[i]);
      const double argument = kind == ActivationKind::kSilu      ? x
                              : kind == ActivationKind::kGeluErf ? x * x
                                                                 : 1.6 * (x + 0.045 * x * x * x);
      const double evaluation = (22 + 8 * argument) * p_.accumulate + p_.activation;
      const double given = 1.13 * gate_bound * y + x * up_bound;
      largest = std::max(largest, given + evaluation * x * y);
    }
    return largest;
  }

  // residual + update: an addition in fp32.
  double ResidualError(const Tracked& residual, const Tracked& update) const {
    return residual.Bound() + update.Bound() +
           2 * p_.accumulate * (residual.Largest() + update.Largest());
  }

  // cap tanh(y / cap): the slope is at most 1; division, tanh and product round.
  double SoftCapError(const Tracked& y, float cap) const {
    return y.Bound() + 8 * p_.accumulate * std::min<double>(y.Largest(), cap);
  }

 private:
  const Precision p_;
  const FormatId format_;
};

}  // namespace vernier::testing
