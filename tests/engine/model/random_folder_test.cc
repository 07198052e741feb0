// A saved model of random weights computes what the model computes.
#include "engine/checkpoint/random_folder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "tests/engine/model/loaded_model.h"

namespace vernier {
namespace {

constexpr RandomModelPart kPart = {.num_layers = 2, .vocab = 96};

// Of a prompt's every token, by each format.
std::vector<std::vector<float>> Logits(const Checkpoint& checkpoint) {
  std::vector<int32_t> prompt(20);
  std::iota(prompt.begin(), prompt.end(), 3);
  auto backend = MakeBackend({.kind = "cpu", .threads = 1});
  EXPECT_TRUE(backend.ok()) << backend.status();
  const auto variants = testing::VariantsOf(testing::AllFormats());
  const auto model = LoadModelFrom(checkpoint, "test", variants, backend->get(), nullptr);
  EXPECT_TRUE(model.ok()) << model.status();
  if (!model.ok()) return {};
  auto driver = testing::SequenceDriver::Create(model->get(), backend->get(),
                                                {.context = 32, .rows = 20, .logit_rows = 20});
  EXPECT_TRUE(driver.ok()) << driver.status();
  std::vector<std::vector<float>> all;
  const std::vector<testing::SequenceDriver::Input> inputs = {{0, prompt}};
  for (int variant = 0; variant < static_cast<int>(variants.size()); ++variant) {
    (*driver)->Reset();
    const absl::Status status =
        (*driver)->Step(variant, inputs, testing::SequenceDriver::Logits::kAll, [] {});
    EXPECT_TRUE(status.ok()) << status;
    const auto logits = (*driver)->LastLogits();
    EXPECT_TRUE(logits.ok()) << logits.status();
    if (logits.ok()) all.push_back(*logits);
  }
  return all;
}

TEST(RandomFolderModelTest, LogitsOfASavedModelAreThoseOfTheModelToTheBitInEveryFormat) {
  std::string parent = ::testing::TempDir() + "random_modelXXXXXX";
  ASSERT_NE(mkdtemp(parent.data()), nullptr);
  const std::string folder = parent + "/model";
  const auto written = WriteRandomFolder("smollm2-135m", folder, {.part = kPart});
  ASSERT_TRUE(written.ok()) << written.status();
  const auto saved = Checkpoint::Open(folder);
  ASSERT_TRUE(saved.ok()) << saved.status();
  const auto random = OpenRandomCheckpoint("smollm2-135m", kPart);
  ASSERT_TRUE(random.ok());
  const auto expected = Logits(**random);
  ASSERT_EQ(expected.size(), testing::AllFormats().size());
  EXPECT_EQ(Logits(**saved), expected);
  std::filesystem::remove_all(parent);
}

}  // namespace
}  // namespace vernier
