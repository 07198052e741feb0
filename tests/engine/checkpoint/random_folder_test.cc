// Models of random weights as folders: what is opened from one is the model, it is whole or not
// there, and nothing is overwritten.
#include "engine/checkpoint/random_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace vernier {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kModel[] = "llama-3.2-1b";
constexpr RandomModelPart kPart = {.num_layers = 1, .vocab = 64};  // 122 MB

std::vector<float> Values(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  if (tensor.shape.size() == 1) {
    const auto values = checkpoint.ReadVector(tensor.name);
    EXPECT_TRUE(values.ok()) << values.status();
    return values.ok() ? *values : std::vector<float>();
  }
  const auto source = checkpoint.OpenMatrix(tensor.name);
  EXPECT_TRUE(source.ok()) << source.status();
  if (!source.ok()) return {};
  std::vector<float> values(static_cast<size_t>(source->rows * source->cols));
  EXPECT_TRUE(source->read(0, source->rows, values.data()).ok());
  return values;
}

class RandomFolderTest : public ::testing::Test {
 protected:
  RandomFolderTest() { EXPECT_NE(mkdtemp(parent_.data()), nullptr); }
  ~RandomFolderTest() override { std::filesystem::remove_all(parent_); }

  std::string folder() const { return parent_ + "/model"; }
  bool NothingIsLeft() const { return std::filesystem::is_empty(parent_); }

  std::string parent_ = ::testing::TempDir() + "random_folderXXXXXX";
};

TEST_F(RandomFolderTest, WhatIsOpenedHasTheModelsConfigAndEveryValue) {
  const auto written = WriteRandomFolder("smollm2-135m", folder() + "/", {.part = kPart});
  ASSERT_TRUE(written.ok()) << written.status();
  EXPECT_EQ(written->files, 1);
  const auto opened = Checkpoint::Open(folder());
  ASSERT_TRUE(opened.ok()) << opened.status();
  const auto random = OpenRandomCheckpoint("smollm2-135m", kPart);
  ASSERT_TRUE(random.ok());
  const ModelConfig& config = (*opened)->config();
  EXPECT_EQ(config.inverse_frequencies, (*random)->config().inverse_frequencies);
  EXPECT_EQ(config.norm_epsilon, (*random)->config().norm_epsilon);
  EXPECT_EQ(config.context, (*random)->config().context);
  EXPECT_EQ(config.Parameters(), (*random)->config().Parameters());
  EXPECT_TRUE(config.tied_lm_head);
  EXPECT_EQ(config.attention.num_kv_heads, 3);
  EXPECT_EQ((*opened)->tensors().size(), (*random)->tensors().size());
  for (const TensorInfo& tensor : (*random)->tensors()) {
    EXPECT_EQ(Values(**opened, tensor), Values(**random, tensor)) << tensor.name;
  }
}

TEST_F(RandomFolderTest, ItsReportSaysThatTheWeightsAreRandom) {
  ASSERT_TRUE(WriteRandomFolder("smollm2-135m", folder(), {.part = kPart}).ok());
  const auto opened = Checkpoint::Open(folder());
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ((*opened)->source(), "random weights (bf16)");
  EXPECT_FALSE((*opened)->source_is_quantized());
}

TEST_F(RandomFolderTest, TensorsAreInFilesOfAboutTheSizeAskedForAndAnIndex) {
  const RandomFolderOptions options{.part = kPart, .shard_bytes = 40 << 20};
  const auto written = WriteRandomFolder(kModel, folder(), options);
  ASSERT_TRUE(written.ok()) << written.status();
  EXPECT_EQ(written->files, 4);
  EXPECT_FALSE(std::filesystem::exists(folder() + "/model.safetensors"));
  int64_t bytes = 0;
  for (int i = 1; i <= 4; ++i) {
    const auto file = folder() + "/model-0000" + std::to_string(i) + "-of-00004.safetensors";
    const auto size = static_cast<int64_t>(std::filesystem::file_size(file));
    EXPECT_LE(size, options.shard_bytes + 4096);
    bytes += size;
  }
  EXPECT_NEAR(static_cast<double>(bytes), static_cast<double>(written->bytes), 4 * 4096);
  const auto opened = Checkpoint::Open(folder());
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_TRUE((*opened)->Has("layers.0.mlp.down"));
}

TEST_F(RandomFolderTest, AFolderThatIsThereIsNotOverwritten) {
  ASSERT_TRUE(std::filesystem::create_directory(folder()));
  std::ofstream(folder() + "/mine") << "kept";
  const absl::Status status = WriteRandomFolder("smollm2-135m", folder(), {}).status();
  EXPECT_TRUE(absl::IsAlreadyExists(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(folder()));
  EXPECT_TRUE(std::filesystem::exists(folder() + "/mine"));
  EXPECT_FALSE(std::filesystem::exists(folder() + ".part"));
}

TEST_F(RandomFolderTest, AnotherRunsPartIsLeftAloneAndNamed) {
  ASSERT_TRUE(std::filesystem::create_directory(folder() + ".part"));
  const absl::Status status = WriteRandomFolder("smollm2-135m", folder(), {}).status();
  EXPECT_TRUE(absl::IsAlreadyExists(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(folder() + ".part"));
  EXPECT_TRUE(std::filesystem::exists(folder() + ".part"));
  EXPECT_FALSE(std::filesystem::exists(folder()));
}

TEST_F(RandomFolderTest, UnknownModelsAndParentsThatAreNotThereLeaveNothing) {
  const absl::Status model = WriteRandomFolder("llama-9", folder(), {}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(model)) << model;
  EXPECT_TRUE(absl::IsInvalidArgument(WriteRandomFolder("smollm2-135m", "", {}).status()));
  const std::string nowhere = parent_ + "/none/model";
  const absl::Status parent = WriteRandomFolder("smollm2-135m", nowhere, {}).status();
  EXPECT_TRUE(absl::IsNotFound(parent)) << parent;
  EXPECT_THAT(std::string(parent.message()), HasSubstr(nowhere));
  EXPECT_TRUE(NothingIsLeft());
}

TEST_F(RandomFolderTest, StoppedHalfwayItLeavesNothing) {
  int asked = 0;
  RandomFolderOptions options{.part = kPart};
  options.stopping = [&] { return ++asked == 5; };
  const absl::Status status = WriteRandomFolder("smollm2-135m", folder(), options).status();
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  EXPECT_EQ(asked, 5);
  EXPECT_TRUE(NothingIsLeft());
}

TEST_F(RandomFolderTest, AWriteThatFailsHalfwayNamesTheFileAndLeavesNothing) {
  // A limit of a file's size fails in the same place as a full disk.
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = 1 << 20, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const absl::Status status = WriteRandomFolder("smollm2-135m", folder(), {.part = kPart}).status();
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("cannot write"), HasSubstr("model.safetensors")));
  EXPECT_TRUE(NothingIsLeft());
}

TEST_F(RandomFolderTest, ADiskWithoutTheRoomIsRefusedWithBothSizes) {
  const RandomModelPart huge = {.num_layers = 4000, .vocab = int64_t{1} << 36};  // 2^50 bytes
  const absl::Status status = WriteRandomFolder("llama-3.1-70b", folder(), {.part = huge}).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("bytes"), HasSubstr("free")));
  EXPECT_TRUE(NothingIsLeft());
}

}  // namespace
}  // namespace vernier
