#include "kernels/cpu/cpu_features.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"

namespace vernier {
namespace {

TEST(CpuFeaturesTest, AutoTakesTheLastSupportedIsaThatIsNotEmulated) {
  const absl::StatusOr<CpuIsa> chosen = ChooseCpuIsa("auto");
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_TRUE(CpuSupports(*chosen));
  EXPECT_FALSE(CpuEmulates(*chosen));
  for (int i = static_cast<int>(*chosen) + 1; i < kNumCpuIsas; ++i) {
    const CpuIsa better = static_cast<CpuIsa>(i);
    EXPECT_TRUE(!CpuSupports(better) || CpuEmulates(better)) << CpuIsaName(better);
  }
}

// Emulation is chosen by name, and says so.
TEST(CpuFeaturesTest, OnlyAmxIsEmulatedAndOnlyWhereItIsSupportedSo) {
  for (int i = 0; i < kNumCpuIsas; ++i) {
    const CpuIsa isa = static_cast<CpuIsa>(i);
    if (!CpuEmulates(isa)) continue;
    EXPECT_EQ(isa, CpuIsa::kAmx);
    const absl::StatusOr<std::unique_ptr<Backend>> backend =
        MakeCpuBackend({.isa = CpuIsaName(isa), .threads = 1});
    ASSERT_TRUE(backend.ok()) << backend.status();
    EXPECT_EQ((*backend)->Describe(), "cpu amx (emulated), 1 thread");
  }
}

TEST(CpuFeaturesTest, AnIsaIsChosenByNameOrRefusedWithTheProcessor) {
  for (int i = 0; i < kNumCpuIsas; ++i) {
    const CpuIsa isa = static_cast<CpuIsa>(i);
    const absl::StatusOr<CpuIsa> chosen = ChooseCpuIsa(CpuIsaName(isa));
    if (CpuSupports(isa)) {
      ASSERT_TRUE(chosen.ok()) << chosen.status();
      EXPECT_EQ(*chosen, isa);
    } else {
      EXPECT_EQ(chosen.status().code(), absl::StatusCode::kFailedPrecondition);
      EXPECT_THAT(std::string(chosen.status().message()), testing::HasSubstr(ProcessorName()));
    }
  }
  EXPECT_TRUE(CpuSupports(CpuIsa::kPortable));
}

TEST(CpuFeaturesTest, UnknownIsaIsInvalidArgument) {
  EXPECT_EQ(ChooseCpuIsa("sse9").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeCpuBackend({.isa = "", .threads = 1}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(CpuFeaturesTest, QuotaIsRoundedUpAndNonsenseIsNone) {
  EXPECT_EQ(ProcessorsOfQuota("200000 100000\n"), 2);
  EXPECT_EQ(ProcessorsOfQuota("150000 100000"), 2);
  EXPECT_EQ(ProcessorsOfQuota("1 100000"), 1);
  EXPECT_EQ(ProcessorsOfQuota("max 100000"), 0);
  EXPECT_EQ(ProcessorsOfQuota(""), 0);
  EXPECT_EQ(ProcessorsOfQuota("-5 100000"), 0);
  EXPECT_EQ(ProcessorsOfQuota("100000 0"), 0);
  EXPECT_EQ(ProcessorsOfQuota("9223372036854775807 9223372036854775807"), 1);
}

TEST(CpuBackendTest, SaysWhatItIs) {
  const absl::StatusOr<std::unique_ptr<Backend>> backend =
      MakeCpuBackend({.isa = "portable", .threads = 2});
  ASSERT_TRUE(backend.ok()) << backend.status();
  EXPECT_EQ((*backend)->Describe(), "cpu portable, 2 threads");
  EXPECT_EQ((*backend)->Threads(), 2);
}

TEST(CpuBackendTest, ZeroThreadsTakesEveryUsableProcessor) {
  const absl::StatusOr<std::unique_ptr<Backend>> backend =
      MakeCpuBackend({.isa = "auto", .threads = 0});
  ASSERT_TRUE(backend.ok()) << backend.status();
  EXPECT_EQ((*backend)->Threads(), UsableProcessors());
}

TEST(CpuBackendTest, ImpossibleThreadsAreInvalidArgument) {
  for (const int threads : {-1, 1 << 20}) {
    EXPECT_EQ(MakeCpuBackend({.isa = "auto", .threads = threads}).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

WorkspacePlan SmallPlan() {
  return {.max_rows = 4,
          .max_logit_rows = 2,
          .max_context = 64,
          .hidden = 24,
          .intermediate = 40,
          .vocab = 50,
          .num_layers = 2,
          .attention = {.num_heads = 4, .num_kv_heads = 2, .head_dim = 6, .scale = 1},
          .kv_blocks = 3,
          .widest_kv = KvType::kF32};
}

TEST(CpuBackendTest, MemoryIsWhatThePlanNeeds) {
  const std::unique_ptr<Backend> backend = *MakeCpuBackend({.isa = "portable", .threads = 1});
  EXPECT_EQ(backend->Memory().kv_bytes, 0);
  ASSERT_TRUE(backend->CreateWorkspace(SmallPlan()).ok());
  const int64_t kv_bytes = 3 * KvBlockBytes(2, SmallPlan().attention, KvType::kF32);
  EXPECT_EQ(backend->Memory().kv_bytes, (kv_bytes + 63) / 64 * 64);
  EXPECT_GT(backend->Memory().workspace_bytes, 4 * (4 * 24 + 4 * 40 + 2 * 2 * 50));
  EXPECT_EQ(backend->CreateWorkspace(SmallPlan()).code(), absl::StatusCode::kFailedPrecondition);
}

TEST(CpuBackendTest, ImpossiblePlansAreRefusedAndAGoodOneStillWorks) {
  const std::unique_ptr<Backend> backend = *MakeCpuBackend({.isa = "portable", .threads = 1});
  WorkspacePlan plan = SmallPlan();
  plan.kv_blocks = int64_t{1} << 62;
  EXPECT_EQ(backend->CreateWorkspace(plan).code(), absl::StatusCode::kResourceExhausted);
  plan = SmallPlan();
  plan.kv_blocks = int64_t{1} << 46;  // fits 64 bits, not the address space
  const absl::Status status = backend->CreateWorkspace(plan);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), testing::ContainsRegex("needs [0-9]+ bytes"));
  plan = SmallPlan();
  plan.hidden = 0;
  EXPECT_EQ(backend->CreateWorkspace(plan).code(), absl::StatusCode::kInvalidArgument);
  plan = SmallPlan();
  plan.attention.num_kv_heads = 3;
  EXPECT_EQ(backend->CreateWorkspace(plan).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(backend->CreateWorkspace(SmallPlan()).ok());
}

TEST(CpuBackendTest, CopyNeedsTheActivationsSize) {
  const std::unique_ptr<Backend> backend = *MakeCpuBackend({.isa = "portable", .threads = 1});
  std::vector<float> out(7);
  EXPECT_EQ(backend->CopyActivation(Activation::kResidual, out).code(),
            absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(backend->CreateWorkspace(SmallPlan()).ok());
  EXPECT_EQ(backend->CopyActivation(Activation::kResidual, out).code(),
            absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace vernier
