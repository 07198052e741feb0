// Runs the calls of a step: which kernels make each, and what is fused across them.
//
// AttentionOut and MlpOut leave their sum for the next norm, which adds it to the residual on its
// way. Of few rows they add it themselves, and leave the sums of its squares, from which the
// product behind makes the norm; gate and up are multiplied with each other in theirs, and of
// decode attention makes the heads. MlpIn makes int8 at once where MlpOut follows and wants it; `h`
// is then not written. q, k and v, and gate and up, are one product where their weights lie next to
// each other. Nothing of this where results are to be deterministic, but one product of neighbours.
// Device thread alone; everything is queued on one stream.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>
#include <variant>

#include "absl/status/status.h"
#include "kernels/backend.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/outliers.h"
#include "kernels/cuda/workspace.h"

namespace vernier::cuda {

struct AttentionOutCall {
  ResidualArgs args;
};
struct MlpOutCall {
  ResidualArgs args;
};

// A call as it was made; what it points to lives until the step is synchronized.
using Call = std::variant<EmbedArgs, AttentionInArgs, AttentionArgs, AttentionOutCall, MlpInArgs,
                          MlpOutCall, LmHeadArgs>;

class LayerRunner {
 public:
  // All must outlive the runner.
  LayerRunner(Workspace* workspace, Multiplier* multiplier, const CudaOptions& options,
              cudaStream_t stream)
      : workspace_(*workspace), multiplier_(*multiplier), options_(options), stream_(stream) {}

  // Queues the calls on a batch. The first launch that fails ends it.
  absl::Status Run(std::span<const Call> calls, const DeviceBatch& batch);

  // The types of the last run's `a` and `h`.
  Scalar attention_type() const { return attention_type_; }
  Scalar hidden_type() const { return hidden_type_; }

 private:
  void Do(const EmbedArgs& args);
  void Do(const AttentionInArgs& args);
  void Do(const AttentionArgs& args);
  void Do(const AttentionOutCall& call);
  void Do(const MlpInArgs& args);
  void Do(const MlpOutCall& call);
  void Do(const LmHeadArgs& args);

  // Whether a product leaves its sums where they belong.
  bool IsFew(const Linear& linear, const DeviceWeight& weight, int rows) const;
  // Notes the first error.
  void Check(cudaError_t error, const char* what);
  Matrix InX(Scalar type, int64_t width) const { return {workspace_.x.as<void>(), type, width}; }
  Int8Rows Int8InX() const { return {workspace_.x.as<int8_t>(), workspace_.x_scales.as<float>()}; }
  // Of AttentionIn for Attention, where InX lies idle.
  Matrix RoundedQuery(KvCode cache) const;
  KvLayer CacheOf(int layer, const AttentionShape& shape, KvType type) const;
  // x = norm(residual) in the type that a weight wants, or as int8, with what waits to be added.
  Matrix Normalize(const Norm& norm, Scalar type);
  Int8Rows NormalizeToInt8(const Norm& norm, const Linear& linear);
  // Of LLM.int8: `x` fp16 without its outlier columns, which MultiplyInt8 adds. `slots` null: none
  // of its rows is padding.
  Int8Rows SplitOutliers(const Matrix& x, int rows, const int32_t* slots);
  void MultiplyInt8(const Linear& linear, const DeviceWeight& weight, const Int8Rows& x,
                    const Matrix& y, int rows);
  // In InX where it is of another type.
  Matrix Converted(const Matrix& input, Scalar type);
  void AddNorm(const Norm& norm, const Matrix& x, const Int8Rows& int8);
  // Has a product make its x from the residual; false where the residual has not been multiplied by
  // the norm's weight.
  bool TakeNormed(const Norm& norm, const int32_t* chosen, GemmOperands* operands);
  // A product on norm(residual). REQUIRES: Multiplier::TakesFew.
  void MultiplyNormed(const Norm& norm, const DeviceWeight& weight, GemmOperands operands,
                      const char* what);
  // MlpIn as one product, whose kernel gates; false where there is none.
  bool MultiplyGated(const MlpInArgs& args);
  // x of the rows whose logits are wanted.
  void NormalizeChosen(const Norm& norm, const Matrix& x, const Int8Rows& int8);
  // y of each weight on `norm(residual)`; `y` [weights]. One product where they lie together.
  void Project(const Norm& norm, std::span<const Linear* const> linears, std::span<Matrix> y);
  // Of what InX holds already as int8 where `input` has no data.
  void AddLater(const ResidualArgs& args, const Matrix& input);
  // Of the product that the call after this one is, as far as it pays to read it early.
  ReadAhead WeightBehind() const;
  // The weight of the norm that the call after this one begins with: RMS without a bias; else null.
  const float* NormBehind() const;
  // Whether the call after this one multiplies the hidden layer as int8.
  bool HiddenGoesToInt8() const;
  void AddNow();

  Workspace& workspace_;
  Multiplier& multiplier_;
  const CudaOptions options_;
  const cudaStream_t stream_;
  absl::Status status_;
  DeviceBatch batch_;
  Scalar attention_type_ = Scalar::kF32;
  Scalar hidden_type_ = Scalar::kF32;
  const Call* next_ = nullptr;  // after the one that is queued; null: none
  bool embedded_ = false;       // in this run
  HeadsParameters heads_;       // that attention is to make; q.data null: none
  // Of the norm whose weight the residual as it is has been multiplied by, in workspace_.weighted,
  // and the parts of its sums of squares, in workspace_.squares; null: of none.
  const float* weighted_by_ = nullptr;
  int squares_parts_ = 0;
  OutlierRows outlier_rows_;     // of the last SplitOutliers
  bool hidden_is_int8_ = false;  // in InX, and nowhere else

  // What the last AttentionOut or MlpOut made; y.data null: nothing waits.
  struct Sum {
    Matrix y;
    const float* bias = nullptr;
    DeviceNorm post_norm;
  } waiting_;
};

}  // namespace vernier::cuda
