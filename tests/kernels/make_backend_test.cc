// Which backend opens, and what is said of one that cannot.
#include "kernels/make_backend.h"

#include <cstdlib>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace vernier {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

absl::Status Refused(const BackendOptions& options) { return MakeBackend(options).status(); }

TEST(MakeBackendTest, UnknownKindNamesTheKnownOnes) {
  const absl::Status status = Refused({.kind = "tpu"});
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("tpu"), HasSubstr("auto, cpu, cuda")));
}

TEST(MakeBackendTest, CudaWithoutItsModuleNamesTheFile) {
  const absl::Status status = Refused({.kind = "cuda", .cuda_module = "/nowhere/module.so"});
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("/nowhere/module.so"));
}

TEST(MakeBackendTest, AutoWithoutAModuleIsTheCpu) {
  const auto backend =
      MakeBackend({.kind = "auto", .cuda_module = "/nowhere/module.so", .threads = 1});
  ASSERT_TRUE(backend.ok()) << backend.status();
  EXPECT_THAT((*backend)->Describe(), HasSubstr("cpu"));
}

TEST(MakeBackendTest, ModuleOfAnotherBuildIsRefusedWithBothIds) {
  const absl::Status status = Refused({.kind = "cuda", .cuda_module = OTHER_BUILD_MODULE});
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("build id other"), HasSubstr("this program")));
}

TEST(MakeBackendTest, AutoWithAModuleOfAnotherBuildIsTheCpu) {
  const auto backend =
      MakeBackend({.kind = "auto", .cuda_module = OTHER_BUILD_MODULE, .threads = 1});
  ASSERT_TRUE(backend.ok()) << backend.status();
  EXPECT_THAT((*backend)->Describe(), HasSubstr("cpu"));
}

TEST(MakeBackendTest, LibraryWithoutTheFactoryIsRefused) {
  const absl::Status status = Refused({.kind = "cuda", .cuda_module = "libm.so.6"});
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("no CUDA module of this program"));
}

}  // namespace
}  // namespace vernier
