// Variants that come and go while others serve.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/model/variant_loader.h"
#include "kernels/cpu/packed_weight.h"
#include "tests/engine/running_engine.h"

namespace vernier {
namespace {

using ::testing::HasSubstr;
using testing::RunningEngine;
using testing::StoryRequest;

constexpr int kFp32 = 0, kInt8 = 1;

Request Story(int variant, int64_t max_tokens = 12) {
  Request request = StoryRequest(max_tokens);
  request.variant = variant;
  return request;
}

class HotLoadTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    running_.Start({.kv_blocks = 64, .max_context = 512, .planning_depth = GetParam()});
    auto packer = MakeBackend({.kind = "cpu", .threads = 1});
    ASSERT_TRUE(packer.ok()) << packer.status();
    packer_ = *std::move(packer);
    loader_ = std::make_unique<VariantLoader>(
        testing::TestDataPath("stories260K/hf"),
        std::vector<VariantSpec>{DefaultVariant(FormatId::kF32), DefaultVariant(FormatId::kInt8)},
        running_.model.get(), packer_.get());
  }

  absl::Status Unload(int variant) {
    const absl::Status status = running_.engine->UnloadVariant(variant, nullptr);
    loader_->Settle();
    return status;
  }
  absl::Status Load(int variant) {
    auto weights = loader_->Load(variant, nullptr);
    if (!weights.ok()) return weights.status();
    const absl::Status status = running_.engine->LoadVariant(variant, *std::move(weights));
    loader_->Settle();
    return status;
  }
  absl::Status Reserve(int variant) {
    return running_.engine->Reserve(1, 5, 5, {.variant = variant}).status();
  }

  RunningEngine running_;
  std::unique_ptr<Backend> packer_;
  std::unique_ptr<VariantLoader> loader_;
};

INSTANTIATE_TEST_SUITE_P(Depth, HotLoadTest, ::testing::Values(1, 2));

TEST_P(HotLoadTest, AnUnloadedVariantIsRefusedAndItsMemoryFree) {
  const auto reference = running_.Run(Story(kFp32))->ids();
  const int64_t before = running_.model->memory.weight_bytes;
  const int64_t own = running_.model->variants[kInt8].own_bytes;
  ASSERT_TRUE(Unload(kInt8).ok());
  EXPECT_EQ(running_.model->memory.weight_bytes, before - own);
  EXPECT_EQ(running_.model->variants[kInt8].own_bytes, 0);
  EXPECT_EQ(running_.model->variants[kFp32].shared_bytes, 0) << "nobody is left to share with";
  EXPECT_EQ(Reserve(kInt8).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(Reserve(kFp32).ok());
  const FinishEvent late = running_.Run(Story(kInt8))->Wait();
  EXPECT_EQ(late.status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(late.status.message(), HasSubstr("int8 is not loaded"));
  Request paired = Story(kFp32);
  paired.score = ScoreParams{.reference_variant = kInt8};
  EXPECT_EQ(running_.Run(paired)->Wait().status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(running_.Run(Story(kFp32))->ids(), reference);
  EXPECT_EQ(running_.engine->UnloadVariant(kInt8, nullptr).code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_P(HotLoadTest, LoadedAgainItIsToTheBitWhatItWas) {
  const auto reference = running_.Run(Story(kInt8, 60))->ids();
  const int64_t before = running_.model->memory.weight_bytes;
  const int64_t own = running_.model->variants[kInt8].own_bytes;
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(Unload(kInt8).ok());
    ASSERT_TRUE(Load(kInt8).ok());
    EXPECT_EQ(running_.Run(Story(kInt8, 60))->ids(), reference);
    EXPECT_TRUE(Reserve(kInt8).ok());
  }
  EXPECT_EQ(running_.model->memory.weight_bytes, before);
  EXPECT_EQ(running_.model->variants[kInt8].own_bytes, own);
  EXPECT_GT(running_.model->variants[kInt8].load_seconds, 0.0);
  EXPECT_EQ(running_.engine->LoadVariant(kInt8, {}).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_P(HotLoadTest, WhatRunsFinishesOnTheWeightsItBeganWith) {
  const auto reference = running_.Run(Story(kInt8, 40))->ids();
  running_.backend->Hold();
  const auto running = running_.Submit(Story(kInt8, 40));
  running_.backend->AwaitHeld();
  std::thread unloading([&] { EXPECT_TRUE(Unload(kInt8).ok()); });
  while (Reserve(kInt8).ok()) std::this_thread::yield();  // the door closes first
  EXPECT_FALSE(running_.model->variants[kInt8].loaded);
  running_.backend->Release();
  const FinishEvent end = running.sink->Wait();
  unloading.join();
  EXPECT_EQ(end.reason, FinishReason::kLength);
  EXPECT_EQ(running.sink->ids(), reference);
}

TEST_P(HotLoadTest, AnUnloadThatIsGivenUpLeavesTheVariantServed) {
  running_.backend->Hold();
  const auto running = running_.Submit(Story(kInt8));
  running_.backend->AwaitHeld();
  EXPECT_EQ(running_.engine->UnloadVariant(kInt8, [] { return false; }).code(),
            absl::StatusCode::kCancelled);
  EXPECT_TRUE(Reserve(kInt8).ok());
  running_.backend->Release();
  EXPECT_EQ(running.sink->Wait().reason, FinishReason::kLength);
  EXPECT_EQ(running_.Run(Story(kInt8))->Wait().reason, FinishReason::kLength);
}

TEST_P(HotLoadTest, OthersDrawTheSameTokensMeanwhile) {
  const auto reference = running_.Run(Story(kFp32, 30))->ids();
  std::atomic<bool> stop{false};
  std::vector<std::thread> clients;
  for (int i = 0; i < 3; ++i) {
    clients.emplace_back([&] {
      do {
        EXPECT_EQ(running_.Run(Story(kFp32, 30))->ids(), reference);
      } while (!stop);
    });
  }
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(Unload(kInt8).ok());
    EXPECT_TRUE(Load(kInt8).ok());
  }
  stop = true;
  for (std::thread& client : clients) client.join();
}

TEST_P(HotLoadTest, ALoadThatIsStoppedLeavesNothingBehind) {
  ASSERT_TRUE(Unload(kInt8).ok());
  const size_t weights = running_.model->weights.size();
  int tensors = 0;
  const auto stopped = loader_->Load(kInt8, [&](const LoadProgress& progress) {
    EXPECT_GT(progress.tensors_total, progress.tensors_done);
    return ++tensors < 10;
  });
  EXPECT_EQ(stopped.status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(tensors, 10);
  EXPECT_EQ(running_.model->weights.size(), weights);
  EXPECT_EQ(Reserve(kInt8).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(Load(kInt8).ok());
}

TEST_P(HotLoadTest, TheCostIsKnownBeforeAByteIsRead) {
  ASSERT_TRUE(Unload(kInt8).ok());
  const auto cost = loader_->Cost(kInt8);
  ASSERT_TRUE(cost.ok()) << cost.status();
  const int64_t before = running_.model->memory.weight_bytes;
  ASSERT_TRUE(Load(kInt8).ok());
  const int64_t grown = running_.model->memory.weight_bytes - before;
  EXPECT_GT(cost->new_bytes, 0);
  EXPECT_LE(cost->new_bytes, grown) << "a backend pads";
  EXPECT_EQ(cost->read_bytes, 0) << "fp32 in memory has every value";
}

TEST_P(HotLoadTest, AnEndedEngineTakesNothing) {
  ASSERT_TRUE(Unload(kInt8).ok());
  auto weights = loader_->Load(kInt8, nullptr);
  ASSERT_TRUE(weights.ok()) << weights.status();
  running_.engine->Stop();
  EXPECT_EQ(running_.engine->LoadVariant(kInt8, *std::move(weights)).code(),
            absl::StatusCode::kUnavailable);
  EXPECT_FALSE(running_.engine->UnloadVariant(kFp32, nullptr).ok());
}

// F54: another file in the place of the one that is served.
TEST(VariantLoaderTest, AFileThatIsNotTheServedOneIsRefused) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::path(::testing::TempDir()) / "hot_load_model";
  fs::remove_all(folder);
  fs::copy(testing::TestDataPath("stories260K/hf"), folder);
  auto backend = MakeBackend({.kind = "cpu", .threads = 1});
  ASSERT_TRUE(backend.ok()) << backend.status();
  std::vector<VariantSpec> specs = {DefaultVariant(FormatId::kF16), DefaultVariant(FormatId::kNf4)};
  specs[1].at_start = false;
  const auto model = LoadModel(folder, "m", specs, backend->get(), nullptr);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_FALSE((*model)->variants[1].loaded);
  EXPECT_TRUE((*model)->variants[1].layers.empty());
  EXPECT_EQ((*model)->variants[1].precision, FormatId::kNf4);
  VariantLoader loader(folder, specs, model->get(), backend->get());
  EXPECT_GT(loader.Cost(1)->read_bytes, 0) << "the file is fp32: fp16 was rounded";
  EXPECT_TRUE(loader.Load(1, nullptr).ok());
  loader.Settle();  // nobody took it over

  const size_t weights = (*model)->weights.size();
  std::fstream file(folder / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  ASSERT_TRUE(file.is_open());
  file.seekp(-3, std::ios::end);
  const char flipped = static_cast<char>(file.peek() ^ 1);
  file.seekp(-3, std::ios::end);
  file.put(flipped);
  file.close();
  const absl::Status status = loader.Load(1, nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_THAT(status.message(), HasSubstr("restart to serve other weights"));
  EXPECT_EQ((*model)->weights.size(), weights);
  fs::remove_all(folder);
  EXPECT_EQ(loader.Load(1, nullptr).status().code(), absl::StatusCode::kFailedPrecondition);
}

std::vector<uint8_t> BytesOf(const Buffer& buffer) {
  return {buffer.data(), buffer.data() + buffer.bytes()};
}

// Every packed byte.
void ExpectSame(const Weight& a, const Weight& b) {
  ASSERT_EQ(a.format, b.format);
  const auto& x = *static_cast<const PackedWeight*>(a.packed.get());
  const auto& y = *static_cast<const PackedWeight*>(b.packed.get());
  EXPECT_EQ(BytesOf(x.panels), BytesOf(y.panels));
  EXPECT_EQ(BytesOf(x.row_scales), BytesOf(y.row_scales));
  EXPECT_EQ(BytesOf(x.shared_scales), BytesOf(y.shared_scales));
  EXPECT_EQ(x.offset, y.offset);
}

struct ResidentCase {
  const char* checkpoint;
  FormatId resident;  // the file's own type
};

class ResidentSourceTest : public ::testing::TestWithParam<ResidentCase> {
 protected:
  static std::vector<VariantSpec> Specs(bool at_start) {
    std::vector<VariantSpec> specs = {DefaultVariant(GetParam().resident)};
    for (const FormatId format : {FormatId::kInt8, FormatId::kNf4, FormatId::kNf4Dq}) {
      specs.push_back({FormatOf(format).name, {{"*", format}}});
      specs.back().at_start = at_start;
    }
    return specs;
  }
};

// The files are gone: what is loaded is from memory, and what a start would have made of them.
TEST_P(ResidentSourceTest, AVariantIsPackedFromWeightsInMemoryThatHaveTheFilesValues) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::path(::testing::TempDir()) / "resident_source_model";
  fs::remove_all(folder);
  fs::copy(testing::TestDataPath(GetParam().checkpoint), folder);
  auto backend = MakeBackend({.kind = "cpu", .threads = 1});
  ASSERT_TRUE(backend.ok()) << backend.status();
  const auto whole = LoadModel(folder, "m", Specs(true), backend->get(), nullptr);
  ASSERT_TRUE(whole.ok()) << whole.status();
  const auto model = LoadModel(folder, "m", Specs(false), backend->get(), nullptr);
  ASSERT_TRUE(model.ok()) << model.status();
  fs::remove_all(folder);

  VariantLoader loader(folder, Specs(false), model->get(), backend->get());
  for (int variant = 1; variant < static_cast<int>((*model)->variants.size()); ++variant) {
    EXPECT_EQ(loader.Cost(variant)->read_bytes, 0);
    const auto weights = loader.Load(variant, nullptr);
    ASSERT_TRUE(weights.ok()) << weights.status();
  }
  ASSERT_EQ((*model)->weights.size(), (*whole)->weights.size());
  for (const auto& [key, weight] : (*whole)->weights) {
    SCOPED_TRACE(key.first + " in " + FormatOf(key.second).name);
    ASSERT_TRUE((*model)->weights.contains(key));
    ExpectSame(*(*model)->weights.at(key), *weight);
  }
}

INSTANTIATE_TEST_SUITE_P(FileTypes, ResidentSourceTest,
                         ::testing::Values(ResidentCase{"checkpoints/tiny_gpt2",
                                                        FormatId::kF16},  // fused, transposed
                                           ResidentCase{"checkpoints/tiny_qwen2", FormatId::kBF16},
                                           ResidentCase{"checkpoints/tiny_qwen2", FormatId::kF32}),
                         [](const auto& param) { return FormatOf(param.param.resident).name; });

TEST(VariantLoaderTest, OneVariantMustBeThereAtTheStart) {
  std::vector<VariantSpec> specs = {DefaultVariant(FormatId::kF16)};
  specs[0].at_start = false;
  EXPECT_FALSE(CheckVariants(specs).ok());
}

}  // namespace
}  // namespace vernier
