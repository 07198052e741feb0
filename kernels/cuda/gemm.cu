#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_rows16.h"

namespace vernier::cuda {
namespace {

bool Valid(const GemmProblem& problem) {
  return problem.rows > 0 && problem.rows <= kMaxGemmRows && problem.outputs > 0 &&
         problem.inputs > 0 && problem.inputs % kRecordCols == 0;
}

}  // namespace

cudaError_t PlanGemm(const GemmProblem& problem, GemmPlan* plan) {
  if (!Valid(problem)) return cudaErrorInvalidValue;
  *plan = PlanRows16(problem);
  return plan->cluster > 0 ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t LaunchGemm(const GemmProblem& problem, const GemmOperands& operands,
                       cudaStream_t stream) {
  GemmPlan plan;
  const cudaError_t planned = PlanGemm(problem, &plan);
  if (planned != cudaSuccess) return planned;
  return LaunchRows16(problem, plan, operands, stream);
}

}  // namespace vernier::cuda
