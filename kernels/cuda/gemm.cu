#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_rows16.h"
#include "kernels/cuda/gemm_wide.h"

namespace vernier::cuda {
namespace {

bool Valid(const GemmProblem& problem) {
  const bool int8_x = problem.activation == Activation::kInt8;
  return problem.rows > 0 && problem.outputs > 0 && problem.inputs > 0 &&
         problem.inputs % kRecordCols == 0 && problem.inputs <= kMostInputs &&
         (problem.encoding != PackedEncoding::kValues || problem.rows <= kRows16Tokens) &&
         (!int8_x ||
          (problem.encoding == PackedEncoding::kInt8 && problem.inputs <= kMostInt8Inputs));
}

// Up to 16 rows the small kernel is the faster one (`gemm_bench --tune`, H200), except for 9 rows
// and more of large NF4 weights: at 16 rows the wide one takes 21.3 us for 25.3 for 28672 x 4096,
// 13.9 for 18.2 for 4096 x 14336 and as long for 6144 x 4096. A norm before and a residual behind
// in kernels of their own cost less than that (`step_bench`, 8B, batch 16: 5,460 tokens/s for
// 5,200).
bool ForRows16(const GemmProblem& problem) {
  constexpr int kLongInputs = 8192;
  constexpr int64_t kLargeWeights = 48 << 20;
  const bool is_long = problem.inputs >= kLongInputs;
  const bool is_large = int64_t{problem.outputs} * problem.inputs >= kLargeWeights;
  const bool is_wide = IsFourBits(problem.encoding) && problem.rows > 8 && (is_long || is_large);
  return problem.rows <= kRows16Tokens && !is_wide;
}

}  // namespace

cudaError_t PlanGemm(const GemmProblem& problem, GemmPlan* plan) {
  if (!Valid(problem)) return cudaErrorInvalidValue;
  *plan = ForRows16(problem) ? PlanRows16(problem) : PlanWide(problem);
  if (plan->cluster > 0) return cudaSuccess;
  // Rows of x too long for shared memory.
  if (problem.encoding == PackedEncoding::kValues) return cudaErrorInvalidValue;
  *plan = PlanWide(problem);
  return cudaSuccess;
}

int ListGemmPlans(const GemmProblem& problem, GemmPlan* plans, int capacity) {
  if (!Valid(problem)) return 0;
  int count = 0;
  const auto add = [&](const GemmPlan& plan) {
    if (plan.cluster > 0 && count < capacity) plans[count++] = plan;
  };
  if (problem.rows <= kRows16Tokens) {
    for (const int cluster : kRows16Clusters) add(PlanRows16(problem, cluster));
  }
  if (problem.encoding == PackedEncoding::kValues) return count;
  for (const WideTile& tile : kWideTiles) {
    const GemmPlan even = PlanWide(problem, tile, LineShares::kEven);
    const GemmPlan cut = PlanWide(problem, tile, LineShares::kCutTiles);
    add(even);
    if (ScheduleOf(problem, cut).sharers != ScheduleOf(problem, even).sharers) add(cut);
  }
  return count;
}

cudaError_t LaunchGemm(const GemmProblem& problem, const GemmPlan& plan,
                       const GemmOperands& operands, cudaStream_t stream) {
  return plan.kernel == GemmKernel::kRows16 ? LaunchRows16(problem, plan, operands, stream)
                                            : LaunchWide(problem, plan, operands, stream);
}

}  // namespace vernier::cuda
