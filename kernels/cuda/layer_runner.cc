#include "kernels/cuda/layer_runner.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/cuda/gemm_rows16.h"
#include "kernels/cuda/weight_store.h"

namespace vernier::cuda {
namespace {

const float* ValuesOf(const Vector* vector) {
  return vector == nullptr ? nullptr : vector->values.get();
}

DeviceNorm NormOf(const Norm* norm) {
  if (norm == nullptr || norm->weight == nullptr) return {};
  return {norm->kind == NormKind::kLayer, ValuesOf(norm->weight), ValuesOf(norm->bias),
          norm->epsilon};
}

HeadShape ShapeOf(const AttentionShape& shape) {
  return {shape.num_heads, shape.num_kv_heads, shape.head_dim, shape.scale, shape.window};
}

Gating GatingOf(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::kSilu:
      return Gating::kSilu;
    case ActivationKind::kGeluTanh:
      return Gating::kGeluTanh;
    case ActivationKind::kGeluErf:
      return Gating::kGeluErf;
  }
  return Gating::kSilu;
}

bool TakesInt8(const Linear& linear, const DeviceWeight& weight) {
  const bool int8 =
      linear.activations == Activations::kInt8 || linear.activations == Activations::kLlmInt8;
  return int8 && Multiplier::TakesInt8(weight);
}

Scalar InputOf(const Linear& linear) { return Multiplier::InputOf(DeviceWeightOf(*linear.weight)); }

// Up to this many values a product adds to the residual, and makes its x from it: all its blocks do
// that anew. A kernel between them takes 1 to 3 us more a layer for one row of 4096, 2 us less for
// 8 of them, and 0.7 us more for 8 of 576 (H200).
constexpr int64_t kMostNormedValues = 4 * 4096;

// What attention asks for of the weight behind it. Of Llama-3.1-8B's (H200, one row) all of it is
// best, of 9 (nf4) to 34 MB (fp16), and more than that costs: it makes its own keys wait.
constexpr int64_t kMostReadAhead = 32 << 20;

// Column `column` of the rows of a matrix.
Matrix Columns(const Matrix& matrix, int64_t column) {
  return {static_cast<uint8_t*>(matrix.data) + column * ScalarSize(matrix.type), matrix.type,
          matrix.stride};
}

}  // namespace

bool LayerRunner::IsFew(const Linear& linear, const DeviceWeight& weight, int rows) const {
  return linear.bias == nullptr && !TakesInt8(linear, weight) && multiplier_.TakesFew(weight, rows);
}

void LayerRunner::Check(cudaError_t error, const char* what) {
  if (status_.ok() && error != cudaSuccess) status_ = StatusOf(error, what);
}

absl::Status LayerRunner::Run(std::span<const Call> calls, const DeviceBatch& batch) {
  status_ = absl::OkStatus();
  batch_ = batch;
  waiting_ = {};
  weighted_by_ = nullptr;
  hidden_is_int8_ = false;
  embedded_ = false;
  heads_ = {};
  for (size_t i = 0; i < calls.size(); ++i) {
    next_ = i + 1 < calls.size() ? &calls[i + 1] : nullptr;
    std::visit([this](const auto& each) { Do(each); }, calls[i]);
    if (!status_.ok()) return status_;
  }
  AddNow();
  return status_;
}

void LayerRunner::Do(const EmbedArgs& args) {
  VERNIER_CHECK(args.table->cols == workspace_.plan.hidden);
  VERNIER_CHECK(args.positions == nullptr || args.positions->cols == workspace_.plan.hidden);
  waiting_ = {};
  weighted_by_ = nullptr;
  EmbedParameters p{.step = batch_.arrays,
                    .table = DeviceWeightOf(*args.table),
                    .scale = args.scale,
                    .residual = workspace_.residual.as<float>()};
  if (args.positions != nullptr) p.positions = DeviceWeightOf(*args.positions);
  Check(LaunchEmbed(p, batch_.rows, stream_), "Embed");
  embedded_ = true;
}

Matrix LayerRunner::Normalize(const Norm& norm, Scalar type) {
  const Matrix x = InX(type, workspace_.plan.hidden);
  AddNorm(norm, x, {});
  return x;
}

Int8Rows LayerRunner::NormalizeToInt8(const Norm& norm, const Linear& linear) {
  if (linear.activations == Activations::kLlmInt8) {
    return SplitOutliers(Normalize(norm, Scalar::kF16), batch_.rows, batch_.arrays.slots);
  }
  const Int8Rows x = Int8InX();
  AddNorm(norm, {}, x);
  return x;
}

Int8Rows LayerRunner::SplitOutliers(const Matrix& x, int rows, const int32_t* slots) {
  const auto padding = static_cast<int32_t>(workspace_.plan.kv_blocks * kBlockTokens);
  outlier_rows_ = {x, x.stride, rows, slots, padding};
  // `x` may be InX, which it fills half of at most.
  const Int8Rows int8{workspace_.x.as<int8_t>() + workspace_.x.bytes() / 2,
                      workspace_.x_scales.as<float>()};
  Check(LaunchSplitOutliers(outlier_rows_, workspace_.OutliersOf(), int8, stream_), "outliers");
  return int8;
}

void LayerRunner::MultiplyInt8(const Linear& linear, const DeviceWeight& weight, const Int8Rows& x,
                               const Matrix& y, int rows) {
  Check(multiplier_.MultiplyInt8(weight, x, y, rows), "an int8 product");
  if (linear.activations != Activations::kLlmInt8) return;
  Check(LaunchAddOutliers(weight, outlier_rows_, workspace_.OutliersOf(), y, stream_), "outliers");
}

void LayerRunner::AddNorm(const Norm& norm, const Matrix& x, const Int8Rows& int8) {
  VERNIER_CHECK(norm.weight->size == workspace_.plan.hidden);
  if (waiting_.y.data != nullptr) weighted_by_ = nullptr;
  Check(LaunchAddNorm({.hidden = workspace_.plan.hidden,
                       .residual = workspace_.residual.as<float>(),
                       .y = waiting_.y,
                       .y_bias = waiting_.bias,
                       .post_norm = waiting_.post_norm,
                       .norm = NormOf(&norm),
                       .x = x,
                       .int8 = int8},
                      batch_.rows, stream_),
        "a norm");
  waiting_ = {};
}

bool LayerRunner::TakeNormed(const Norm& norm, const int32_t* chosen, GemmOperands* operands) {
  const DeviceNorm device = NormOf(&norm);
  if (weighted_by_ == nullptr || device.weight != weighted_by_) return false;
  VERNIER_CHECK(norm.weight->size == workspace_.plan.hidden);
  operands->normed = {.weighted = workspace_.weighted.as<float>(),
                      .epsilon = device.epsilon,
                      .squares = workspace_.squares.as<float>(),
                      .parts = squares_parts_,
                      .chosen = chosen};
  return true;
}

void LayerRunner::MultiplyNormed(const Norm& norm, const DeviceWeight& weight,
                                 GemmOperands operands, const char* what) {
  if (!TakeNormed(norm, nullptr, &operands)) {
    operands.x = Normalize(norm, Multiplier::InputOf(weight)).data;
  }
  Check(multiplier_.MultiplyFew(weight, operands, batch_.rows), what);
}

void LayerRunner::Project(const Norm& norm, std::span<const Linear* const> linears,
                          std::span<Matrix> y) {
  std::vector<DeviceWeight> weights;
  for (const Linear* linear : linears) weights.push_back(DeviceWeightOf(*linear->weight));
  auto* const results = workspace_.y.as<uint8_t>();
  if (const std::optional<DeviceWeight> joined = Join(weights)) {
    const Scalar type = Multiplier::InputOf(*joined);
    const Matrix all{results, Multiplier::OutputOf(*joined, type), joined->rows};
    if (TakesInt8(*linears[0], *joined)) {
      MultiplyInt8(*linears[0], *joined, NormalizeToInt8(norm, *linears[0]), all, batch_.rows);
    } else if (multiplier_.TakesFew(*joined, batch_.rows)) {
      MultiplyNormed(norm, *joined, {.y = all.data}, "a joined product");
    } else {
      const Matrix x = Normalize(norm, type);
      Check(multiplier_.Multiply(*joined, x, all, batch_.rows), "a joined product");
    }
    int64_t column = 0;
    for (size_t i = 0; i < weights.size(); ++i) {
      y[i] = Columns(all, column);
      column += weights[i].rows;
    }
    return;
  }
  std::optional<Matrix> x;  // of these two the one that InX holds
  std::optional<Int8Rows> int8_x;
  int64_t offset = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const Scalar type = Multiplier::InputOf(weights[i]);
    y[i] = {results + offset, Multiplier::OutputOf(weights[i], type), weights[i].rows};
    if (TakesInt8(*linears[i], weights[i])) {
      if (!int8_x.has_value()) int8_x = NormalizeToInt8(norm, *linears[i]);
      x.reset();
      MultiplyInt8(*linears[i], weights[i], *int8_x, y[i], batch_.rows);
    } else {
      if (!x.has_value() || x->type != type) x = Normalize(norm, type);
      int8_x.reset();
      Check(multiplier_.Multiply(weights[i], *x, y[i], batch_.rows), "a product");
    }
    // As wide as fp32, padding of rows included: Workspace::y has room for that.
    const int64_t room = multiplier_.row_room(), rows = (batch_.rows + room - 1) / room * room;
    offset += rows * weights[i].rows * static_cast<int64_t>(sizeof(float));
  }
}

KvLayer LayerRunner::CacheOf(int layer, const AttentionShape& shape, KvType type) const {
  VERNIER_CHECK(layer >= 0 && layer < workspace_.plan.num_layers);
  VERNIER_CHECK(KvHeadBytes(shape, type) <= KvHeadBytes(shape, workspace_.plan.widest_kv));
  return {workspace_.kv.as<uint8_t>() + KvBlockBytes(layer, shape, type), workspace_.kv_block_bytes,
          CodeOf(type), workspace_.plan.kv_blocks + 1};
}

Matrix LayerRunner::RoundedQuery(KvCode cache) const {
  return InX(cache == KvCode::kBF16 ? Scalar::kBF16 : Scalar::kF16, workspace_.query_width());
}

void LayerRunner::Do(const AttentionInArgs& args) {
  const AttentionShape& planned = workspace_.plan.attention;
  VERNIER_CHECK(args.shape.num_heads == planned.num_heads &&
                args.shape.num_kv_heads == planned.num_kv_heads &&
                args.shape.head_dim == planned.head_dim);
  const Linear* const linears[] = {&args.q, &args.k, &args.v};
  std::array<Matrix, 3> y;
  Project(args.norm, linears, y);
  attention_type_ = InputOf(args.q);
  HeadsParameters p{.shape = ShapeOf(args.shape),
                    .step = batch_.arrays,
                    .q = y[0],
                    .k = y[1],
                    .v = y[2],
                    .q_bias = ValuesOf(args.q.bias),
                    .k_bias = ValuesOf(args.k.bias),
                    .v_bias = ValuesOf(args.v.bias),
                    .q_norm = NormOf(args.q_norm),
                    .k_norm = NormOf(args.k_norm),
                    .query = workspace_.query.as<float>(),
                    .cache = CacheOf(args.layer, args.shape, args.kv_type)};
  p.by_one_kernel = TakesCuts(options_);
  if (!TakesCuts(options_) && batch_.tiles > 0 && TakesWarpgroups(p.shape, p.cache.code)) {
    p.rounded_query = RoundedQuery(p.cache.code);
    const bool attended = next_ != nullptr && std::holds_alternative<AttentionArgs>(*next_);
    if (attended && batch_.decode_rows == 0) p.query = nullptr;
  }
  if (args.rotary != nullptr) {
    p.inverse_frequencies = ValuesOf(args.rotary->inverse_frequencies);
    p.rotated_pairs = static_cast<int>(args.rotary->inverse_frequencies->size);
  }
  // Of few rows of decode, attention makes the heads, and reads the arrays before the kernels ahead
  // of it have ended: those come after Embed, which waits for all.
  const bool decodes = batch_.tiles == 0 && embedded_ && batch_.rows <= kRows16Tokens;
  const auto* attention = next_ == nullptr ? nullptr : std::get_if<AttentionArgs>(next_);
  if (decodes && attention != nullptr && attention->layer == args.layer &&
      attention->kv_type == args.kv_type && HasTensorKernels(p.shape, p.cache.code)) {
    heads_ = p;
    return;
  }
  Check(LaunchHeads(p, batch_.rows, stream_), "the heads");
}

ReadAhead LayerRunner::WeightBehind() const {
  const auto* out = next_ == nullptr ? nullptr : std::get_if<AttentionOutCall>(next_);
  if (out == nullptr) return {};
  const DeviceWeight& weight = DeviceWeightOf(*out->args.linear.weight);
  return {weight.codes, std::min(CodeBytesOf(weight), kMostReadAhead)};
}

void LayerRunner::Do(const AttentionArgs& args) {
  const AttentionParameters p{
      .shape = ShapeOf(args.shape),
      .step = batch_.arrays,
      .cache = CacheOf(args.layer, args.shape, args.kv_type),
      .query = workspace_.query.as<float>(),
      .out = {workspace_.attention.as<void>(), attention_type_, workspace_.query_width()},
      .rounded_query = RoundedQuery(CodeOf(args.kv_type)).data,
      .rows = batch_.rows,
      .heads = std::exchange(heads_, {}),
      .ahead = WeightBehind()};
  const DecodeSplit& split = batch_.SplitOf(args.shape.window);
  if (!HasTensorKernels(p.shape, p.cache.code)) {
    const PlainRows rows{split.rows, batch_.decode_rows, batch_.tiles, batch_.tile_rows};
    Check(LaunchAttentionPlain(p, rows, stream_), "attention");
    return;
  }
  if (TakesCuts(options_)) {
    Check(LaunchCuts(p, {batch_.tiles, batch_.tile_rows}, batch_.cuts, stream_), "attention");
    return;
  }
  if (batch_.decode_rows > 0) {
    Check(LaunchDecode(p, split, stream_), "attention of decode rows");
  }
  if (batch_.tiles > 0) Check(LaunchPrefill(p, batch_.tiles, stream_), "attention of prefill rows");
}

const float* LayerRunner::NormBehind() const {
  if (next_ == nullptr) return nullptr;
  const Norm* norm = nullptr;
  if (const auto* in = std::get_if<AttentionInArgs>(next_)) norm = &in->norm;
  if (const auto* in = std::get_if<MlpInArgs>(next_)) norm = &in->norm;
  if (const auto* in = std::get_if<LmHeadArgs>(next_)) norm = &in->norm;
  const DeviceNorm device = NormOf(norm);
  return device.centered || device.bias != nullptr ? nullptr : device.weight;
}

Matrix LayerRunner::Converted(const Matrix& input, Scalar type) {
  if (input.type == type) return input;
  const Matrix x = InX(type, input.stride);
  Check(LaunchConvert(input, x, input.stride, batch_.rows, stream_), "a conversion");
  return x;
}

void LayerRunner::AddLater(const ResidualArgs& args, const Matrix& input) {
  AddNow();
  const DeviceWeight& weight = DeviceWeightOf(*args.linear.weight);
  VERNIER_CHECK(weight.cols == input.stride && weight.rows == workspace_.plan.hidden);
  const Scalar type = Multiplier::InputOf(weight);
  const Matrix y{workspace_.y.as<void>(), Multiplier::OutputOf(weight, type), weight.rows};
  if (args.linear.activations == Activations::kLlmInt8 && TakesInt8(args.linear, weight)) {
    const Int8Rows x = SplitOutliers(Converted(input, type), batch_.rows, batch_.arrays.slots);
    MultiplyInt8(args.linear, weight, x, y, batch_.rows);
  } else if (TakesInt8(args.linear, weight)) {
    if (input.data != nullptr) {
      Check(LaunchRoundToInt8(input, Int8InX(), input.stride, batch_.rows, stream_), "rounding");
    }
    MultiplyInt8(args.linear, weight, Int8InX(), y, batch_.rows);
  } else {
    const Matrix x = Converted(input, type);
    const DeviceNorm post_norm = NormOf(args.post_norm);
    if (batch_.rows * workspace_.plan.hidden <= kMostNormedValues && post_norm.weight == nullptr &&
        IsFew(args.linear, weight, batch_.rows)) {
      weighted_by_ = NormBehind();
      const GemmOperands sums{.x = x.data,
                              .y = workspace_.residual.as<void>(),
                              .result = GemmResult::kResidual,
                              .next_norm = weighted_by_,
                              .weighted = workspace_.weighted.as<float>(),
                              .squares = workspace_.squares.as<float>()};
      Check(multiplier_.MultiplyFew(weight, sums, batch_.rows), "a product");
      squares_parts_ = Multiplier::SquaresOfFew(weight, batch_.rows);
      return;
    }
    Check(multiplier_.Multiply(weight, x, y, batch_.rows), "a product");
  }
  waiting_ = {y, ValuesOf(args.linear.bias), NormOf(args.post_norm)};
}

void LayerRunner::AddNow() {
  if (waiting_.y.data == nullptr) return;
  weighted_by_ = nullptr;
  Check(LaunchAddNorm({.hidden = workspace_.plan.hidden,
                       .residual = workspace_.residual.as<float>(),
                       .y = waiting_.y,
                       .y_bias = waiting_.bias,
                       .post_norm = waiting_.post_norm},
                      batch_.rows, stream_),
        "the residual");
  waiting_ = {};
}

void LayerRunner::Do(const AttentionOutCall& call) {
  AddLater(call.args, {workspace_.attention.as<void>(), attention_type_, workspace_.query_width()});
}

void LayerRunner::Do(const MlpInArgs& args) {
  const int64_t width = args.up.weight->rows;
  VERNIER_CHECK(args.up.weight->cols == workspace_.plan.hidden &&
                width <= workspace_.plan.intermediate);
  hidden_type_ = InputOf(args.up);
  hidden_is_int8_ = false;
  if (MultiplyGated(args)) return;
  std::array<Matrix, 2> y;
  const Linear* const linears[] = {&args.gate, &args.up};
  const size_t first = args.gate.weight == nullptr ? 1 : 0;
  Project(args.norm, std::span(linears).subspan(first), std::span(y).subspan(first));
  ActivateParameters p{.kind = GatingOf(args.activation),
                       .width = width,
                       .gate = y[0],
                       .up = y[1],
                       .gate_bias = ValuesOf(args.gate.bias),
                       .up_bias = ValuesOf(args.up.bias),
                       .out = {workspace_.hidden.as<void>(), hidden_type_, width}};
  hidden_is_int8_ = ActivatesToInt8(p) && HiddenGoesToInt8();
  if (hidden_is_int8_) p.int8 = Int8InX();
  Check(LaunchActivate(p, batch_.rows, stream_), "the activation");
}

bool LayerRunner::MultiplyGated(const MlpInArgs& args) {
  constexpr int64_t kGatedColumns = 64;
  if (args.gate.weight == nullptr || args.up.weight->rows % kGatedColumns != 0) return false;
  if (args.gate.bias != nullptr || args.up.bias != nullptr) return false;
  const DeviceWeight weights[] = {DeviceWeightOf(*args.gate.weight),
                                  DeviceWeightOf(*args.up.weight)};
  const std::optional<DeviceWeight> joined = Join(weights);
  if (!joined.has_value() || TakesInt8(args.up, *joined)) return false;
  const Gating gating = GatingOf(args.activation);
  void* const hidden = workspace_.hidden.as<void>();
  if (IsFew(args.up, *joined, batch_.rows)) {
    MultiplyNormed(args.norm, *joined, {.y = hidden, .result = GemmResult::kGate, .gating = gating},
                   "a gated product");
    return true;
  }
  // What goes to int8 needs whole rows first.
  if (!multiplier_.TakesGate(*joined) || HiddenGoesToInt8()) return false;
  const Matrix x = Normalize(args.norm, Multiplier::InputOf(*joined));
  Check(multiplier_.MultiplyGate(*joined, gating, x, hidden, batch_.rows), "a gated product");
  return true;
}

bool LayerRunner::HiddenGoesToInt8() const {
  const auto* out = next_ == nullptr ? nullptr : std::get_if<MlpOutCall>(next_);
  return out != nullptr && out->args.linear.activations == Activations::kInt8 &&
         TakesInt8(out->args.linear, DeviceWeightOf(*out->args.linear.weight));
}

void LayerRunner::Do(const MlpOutCall& call) {
  void* const hidden = hidden_is_int8_ ? nullptr : workspace_.hidden.as<void>();
  AddLater(call.args, {hidden, hidden_type_, call.args.linear.weight->cols});
}

void LayerRunner::NormalizeChosen(const Norm& norm, const Matrix& x, const Int8Rows& int8) {
  Check(LaunchAddNorm({.hidden = workspace_.plan.hidden,
                       .residual = workspace_.residual.as<float>(),
                       .norm = NormOf(&norm),
                       .x = x,
                       .int8 = int8,
                       .chosen = batch_.arrays.logit_rows},
                      batch_.logit_rows, stream_),
        "the last norm");
}

void LayerRunner::Do(const LmHeadArgs& args) {
  const int64_t vocab = workspace_.plan.vocab, hidden = workspace_.plan.hidden;
  const DeviceWeight& weight = DeviceWeightOf(*args.linear.weight);
  VERNIER_CHECK(args.buffer >= 0 && args.buffer < kLogitBuffers);
  VERNIER_CHECK(weight.rows == vocab && args.norm.weight->size == hidden);
  AddNow();
  if (batch_.logit_rows == 0) return;
  auto* const logits = workspace_.logits[args.buffer].as<float>();
  const bool bare = args.linear.bias == nullptr && args.soft_cap <= 0;
  if (bare && IsFew(args.linear, weight, batch_.logit_rows)) {
    GemmOperands sums{.y = logits, .result = GemmResult::kFloat};
    if (!TakeNormed(args.norm, batch_.arrays.logit_rows, &sums)) {
      const Matrix x = InX(Multiplier::InputOf(weight), hidden);
      NormalizeChosen(args.norm, x, {});
      sums.x = x.data;
    }
    Check(multiplier_.MultiplyFew(weight, sums, batch_.logit_rows), "lm_head");
    return;
  }
  const bool int8 = TakesInt8(args.linear, weight);
  const bool outliers = int8 && args.linear.activations == Activations::kLlmInt8;
  const bool rounds = int8 && !outliers;
  const Matrix x = rounds ? Matrix() : InX(Multiplier::InputOf(weight), hidden);
  NormalizeChosen(args.norm, x, rounds ? Int8InX() : Int8Rows());
  Matrix y{logits, Multiplier::OutputOf(weight, Scalar::kF32), vocab};
  if (y.type != Scalar::kF32) y.data = workspace_.y.as<void>();
  if (int8) {
    const Int8Rows codes = outliers ? SplitOutliers(x, batch_.logit_rows, nullptr) : Int8InX();
    MultiplyInt8(args.linear, weight, codes, y, batch_.logit_rows);
  } else {
    Check(multiplier_.Multiply(weight, x, y, batch_.logit_rows), "lm_head");
  }
  if (y.data == logits && bare) return;
  Check(LaunchLogits({.vocab = vocab,
                      .y = y,
                      .bias = ValuesOf(args.linear.bias),
                      .soft_cap = args.soft_cap,
                      .logits = logits},
                     batch_.logit_rows, stream_),
        "the logits");
}

}  // namespace vernier::cuda
