// Variants that an administrator loads and unloads: over the wire with a whole daemon, and what
// that cannot show with values alone.
#include "server/model_control.h"

#include <gmock/gmock.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/manifest.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "server/host_memory.h"
#include "tests/engine/faulty_backend.h"
#include "tests/server/end_to_end.h"
#include "tests/server/metrics_page.h"
#include "tests/testing/fake_engine.h"
#include "vernier/v1/model_control.grpc.pb.h"

namespace vernier {
namespace {

using testing::GoldenRun;
using testing::GoldenRuns;
using ::testing::HasSubstr;
using testing::IdsRequest;

// The suite's daemon has no admin listener: one of its own.
class ModelControlEndToEndTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = std::make_unique<testing::StoryModel>();
    ServerConfig config = testing::StoryConfig(model_->path());
    config.admin = "127.0.0.1:0";
    running_ = testing::StartDaemon(config);
    ASSERT_NE(running_.daemon, nullptr);
    control_ = v1::ModelControl::NewStub(testing::Connect(running_.daemon->admin_address()));
  }
  static void TearDownTestSuite() {
    control_.reset();
    if (running_.daemon != nullptr) running_.daemon->Stop();
    running_ = {};
    model_.reset();
  }
  void TearDown() override { Load("nf4"); }  // it may be loaded

  static grpc::Status Load(const std::string& variant, v1::LoadVariantProgress* last = nullptr) {
    grpc::ClientContext context;
    v1::LoadVariantRequest request;
    request.set_variant(variant);
    const auto reader = control_->LoadVariant(&context, request);
    v1::LoadVariantProgress message;
    while (reader->Read(&message)) {
    }
    if (last != nullptr) *last = message;
    return reader->Finish();
  }
  static grpc::Status Unload(const std::string& variant,
                             v1::UnloadVariantResponse* reply = nullptr) {
    grpc::ClientContext context;
    v1::UnloadVariantRequest request;
    request.set_variant(variant);
    v1::UnloadVariantResponse ignored;
    return control_->UnloadVariant(&context, request, reply == nullptr ? &ignored : reply);
  }
  static v1::PlanMemoryResponse Plan(const std::string& variant) {
    grpc::ClientContext context;
    v1::PlanMemoryRequest request;
    request.set_variant(variant);
    v1::PlanMemoryResponse reply;
    const grpc::Status status = control_->PlanMemory(&context, request, &reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return reply;
  }
  static std::pair<grpc::Status, v1::GenerateResponse> Story(const std::string& variant) {
    v1::GenerateRequest request = IdsRequest(GoldenRuns().front().prompt, 24);
    request.set_variant(variant);
    return testing::Generate(running_, request);
  }
  static v1::Model Model() {
    grpc::ClientContext context;
    v1::Model model;
    EXPECT_TRUE(running_.models->GetModel(&context, {}, &model).ok());
    return model;
  }
  static int HealthOf(const std::string& variant) {
    return testing::HealthOf(running_, "vernier.v1.Inference/" + variant);
  }

  static inline std::unique_ptr<testing::StoryModel> model_;
  static inline testing::RunningDaemon running_;
  static inline std::unique_ptr<v1::ModelControl::Stub> control_;
};

TEST_F(ModelControlEndToEndTest, AVariantGoesAndComesBackAsItWas) {
  const auto before = Story("nf4").second;
  const uint64_t bytes = Model().weight_bytes();
  v1::UnloadVariantResponse freed;
  ASSERT_TRUE(Unload("nf4", &freed).ok());
  EXPECT_GT(freed.freed_bytes(), 0u);
  EXPECT_EQ(Model().weight_bytes(), bytes - freed.freed_bytes());
  EXPECT_EQ(Model().variants(3).state(), v1::UNLOADED);
  EXPECT_EQ(Model().variants(0).state(), v1::READY);
  EXPECT_EQ(Story("nf4").first.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(Story("nf4").first.error_message(), HasSubstr("nf4 is not loaded"));
  EXPECT_TRUE(Story("fp16").first.ok());
  EXPECT_EQ(HealthOf("nf4"), grpc::health::v1::HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(HealthOf("fp16"), grpc::health::v1::HealthCheckResponse::SERVING);

  const v1::PlanMemoryResponse plan = Plan("nf4");
  EXPECT_FALSE(plan.loaded());
  EXPECT_TRUE(plan.fits());
  EXPECT_GT(plan.own_weight_bytes(), 0u);
  EXPECT_GT(plan.shared_weight_bytes(), 0u) << "embeddings are there in fp16";
  EXPECT_GT(plan.available_bytes(), plan.own_weight_bytes());

  v1::LoadVariantProgress last;
  const grpc::Status loaded = Load("nf4", &last);
  ASSERT_TRUE(loaded.ok()) << loaded.error_message();
  EXPECT_EQ(last.tensors_done(), last.tensors_total());
  EXPECT_EQ(last.variant().state(), v1::READY);
  EXPECT_EQ(last.variant().name(), "nf4");
  EXPECT_EQ(Model().weight_bytes(), bytes);
  EXPECT_EQ(HealthOf("nf4"), grpc::health::v1::HealthCheckResponse::SERVING);
  const auto [status, after] = Story("nf4");
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(after.completions(0).text(), before.completions(0).text());
  EXPECT_EQ(Plan("nf4").own_weight_bytes(), freed.freed_bytes());
}

TEST_F(ModelControlEndToEndTest, WhatCannotBeDoneIsRefused) {
  EXPECT_EQ(Load("fp64").error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Unload("").error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Load("fp16").error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  ASSERT_TRUE(Unload("nf4").ok());
  EXPECT_EQ(Unload("nf4").error_code(), grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(ModelControlEndToEndTest, ACompareOfAllIsOfThoseThatAreLoaded) {
  ASSERT_TRUE(Unload("nf4").ok());
  v1::CompareRequest request;
  *request.mutable_base() = IdsRequest(GoldenRuns().front().prompt, 8);
  grpc::ClientContext context;
  v1::CompareResponse reply;
  const grpc::Status status = running_.evaluation->Compare(&context, request, &reply);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(reply.results_size(), 3);
}

// F55: the others are ready, and its reason is where its users, its metrics and its log are.
TEST(SelfTestEndToEndTest, F55AVariantThatDrawsOtherTokensIsNotServed) {
  const testing::StoryModel model;
  const auto checkpoint = Checkpoint::Open(model.path(), ManifestUse::kIgnore);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  absl::StatusOr<Manifest> manifest = (*checkpoint)->MakeManifest();
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  const GoldenRun right = GoldenRuns().front();
  manifest->golden = GoldenTokens{{right.prompt.begin(), right.prompt.end()},
                                  {right.output.begin(), right.output.begin() + 4},
                                  0.5};
  manifest->golden_formats[FormatId::kInt8] = GoldenTokens{{1, 403, 407}, {5, 5, 5, 5}, 0.5};
  std::ofstream(ManifestPathOfFolder(model.path())) << RenderManifest(*manifest);
  ServerConfig config = testing::StoryConfig(model.path());
  config.admin = "127.0.0.1:0";
  testing::RunningDaemon running = testing::StartDaemon(config);
  ASSERT_NE(running.daemon, nullptr);

  grpc::ClientContext context;
  v1::Model described;
  ASSERT_TRUE(running.models->GetModel(&context, {}, &described).ok());
  for (const v1::Variant& variant : described.variants()) {
    SCOPED_TRACE(variant.name());
    const bool failed = variant.name() == "int8";
    EXPECT_EQ(variant.state(), failed ? v1::FAILED : v1::READY);
    v1::GenerateRequest request = IdsRequest(GoldenRuns().front().prompt, 4);
    request.set_variant(variant.name());
    const auto [status, reply] = testing::Generate(running, request);
    EXPECT_EQ(status.error_code(),
              failed ? grpc::StatusCode::FAILED_PRECONDITION : grpc::StatusCode::OK);
    EXPECT_EQ(status.error_message(), failed ? "variant int8 failed its self-test" : "");
    const testing::MetricsPage page(running.daemon->RenderPage());
    EXPECT_EQ(page.Sum("vernier_variant_state",
                       {"variant=\"" + variant.name() + "\"", failed ? "\"failed\"" : "\"ready\""}),
              1);
    EXPECT_EQ(testing::HealthOf(running, "vernier.v1.Inference/" + variant.name()),
              failed ? grpc::health::v1::HealthCheckResponse::NOT_SERVING
                     : grpc::health::v1::HealthCheckResponse::SERVING);
  }

  const auto control = v1::ModelControl::NewStub(testing::Connect(running.daemon->admin_address()));
  grpc::ClientContext loading;
  v1::LoadVariantRequest again;
  again.set_variant("int8");
  const auto reader = control->LoadVariant(&loading, again);
  v1::LoadVariantProgress progress;
  while (reader->Read(&progress)) {
  }
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("the manifest says [5, 5, 5, 5]"));
  running.daemon->Stop();
}

// F54: others get what they always get while a variant comes and goes.
TEST_F(ModelControlEndToEndTest, F54OthersServeMeanwhile) {
  const std::string text = Story("fp16").second.completions(0).text();
  std::atomic<bool> stop{false};
  std::vector<std::thread> clients;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back([&, i] {
      while (!stop) {
        const auto [status, reply] = Story(i < 2 ? "fp16" : "nf4");
        if (i < 2) {
          ASSERT_TRUE(status.ok()) << status.error_message();
          EXPECT_EQ(reply.completions(0).text(), text);
        } else if (!status.ok()) {
          // Never an accident: it is there, or it is said not to be.
          EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION)
              << status.error_message();
        }
      }
    });
  }
  for (int i = 0; i < 6; ++i) {
    EXPECT_TRUE(Unload("nf4").ok());
    EXPECT_TRUE(Load("nf4").ok());
  }
  stop = true;
  for (std::thread& client : clients) client.join();
}

// With a real model and an engine that takes everything.
class ModelControlTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto backend = MakeBackend({.kind = "cpu", .threads = 1});
    ASSERT_TRUE(backend.ok()) << backend.status();
    backend_ = *std::move(backend);
    specs_ = {DefaultVariant(FormatId::kF16), DefaultVariant(FormatId::kNf4)};
    specs_[1].at_start = false;
    auto model = LoadModel(files_.path(), "m", specs_, backend_.get(), nullptr);
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
    auto packer = MakeBackend({.kind = "cpu", .threads = 1});
    ASSERT_TRUE(packer.ok()) << packer.status();
    control_ = std::make_unique<ModelControl>(
        ModelControlOptions{files_.path(), specs_, [this] { return available_; },
                            [this] { return draining_; }},
        model_.get(), &engine_, *std::move(packer), &health_, &metrics_);
  }

  testing::StoryModel files_;
  std::vector<VariantSpec> specs_;
  int64_t available_ = -1;
  bool draining_ = false;
  testing::FakeClock clock_;
  testing::FakeEngine engine_{{}, 64, 2, &clock_};
  HealthBoard health_;
  Metrics metrics_{"m", {{"fp16", "fp16"}, {"nf4", "nf4"}}, 64};
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<ModelControl> control_;
};

TEST_F(ModelControlTest, WhatDoesNotFitIsRefusedWithNumbers) {
  available_ = 1 << 10;
  const auto plan = control_->Plan(1);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_FALSE(plan->Fits());
  const absl::Status status = control_->Load(1, nullptr);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("MiB, 0.0 MiB are available"));
  available_ = -1;  // not known: not refused for it
  EXPECT_TRUE(control_->Load(1, nullptr).ok());
}

// Its memory is used up by others, whatever the kernel says is available.
class FullBackend : public testing::FaultyBackend {
 public:
  using FaultyBackend::FaultyBackend;
  absl::StatusOr<std::vector<Weight>> CreateWeights(const WeightSource&,
                                                    std::span<const FormatId>) override {
    return absl::ResourceExhaustedError("no GPU memory for weights: 4096 bytes");
  }
};

TEST_F(ModelControlTest, F36MemoryThatTheDeviceLacksIsSaidAndCounted) {
  auto packer = MakeBackend({.kind = "cpu", .threads = 1});
  ASSERT_TRUE(packer.ok()) << packer.status();
  ModelControl control({files_.path(), specs_, [] { return -1; }, [] { return false; }},
                       model_.get(), &engine_, std::make_unique<FullBackend>(*std::move(packer)),
                       &health_, &metrics_);
  EXPECT_EQ(control.Load(1, nullptr).code(), absl::StatusCode::kResourceExhausted);
  const testing::MetricsPage page(RenderPrometheus(metrics_.Collect()));
  EXPECT_EQ(page.Sum("vernier_gpu_errors_total", {"kind=\"oom\""}), 1);
  EXPECT_TRUE(control_->Load(1, nullptr).ok()) << "the next finds room";
}

TEST_F(ModelControlTest, OneAtATime) {
  ASSERT_TRUE(control_->Begin().ok());
  EXPECT_EQ(control_->Begin().code(), absl::StatusCode::kFailedPrecondition);
  Mutex mutex;
  CondVar ended;
  bool worked = false, done = false;
  control_->Post([&] { worked = true; },
                 [&] {
                   MutexLock lock(&mutex);
                   done = true;
                   ended.NotifyAll();
                 });
  MutexLock lock(&mutex);
  while (!done) ended.Wait(&mutex);
  EXPECT_TRUE(worked);
  EXPECT_TRUE(control_->Begin().ok());
}

TEST_F(ModelControlTest, AClientThatLeavesAndADrainStopALoad) {
  EXPECT_EQ(control_->Load(1, [](const LoadProgress& p) { return p.tensors_done < 3; }).code(),
            absl::StatusCode::kCancelled);
  EXPECT_EQ(control_
                ->Load(1,
                       [this](const LoadProgress& p) {
                         draining_ = p.tensors_done >= 3;
                         return true;
                       })
                .code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(control_->Begin().code(), absl::StatusCode::kUnavailable);
}

TEST(HostMemoryTest, ReadsWhatTheKernelSays) {
  EXPECT_EQ(AvailableOfMeminfo("MemTotal:  8 kB\nMemAvailable:    123 kB\n"), 123 << 10);
  for (const char* bad : {"", "MemAvailable:", "MemAvailable: x kB", "MemAvailable: -5 kB"}) {
    EXPECT_EQ(AvailableOfMeminfo(bad), -1) << bad;
  }
  EXPECT_EQ(LeftOfControlGroup("1000\n", "400\n"), 600);
  EXPECT_EQ(LeftOfControlGroup("1000\n", "1400\n"), 0);
  EXPECT_EQ(LeftOfControlGroup("max\n", "400\n"), -1);
  EXPECT_EQ(LeftOfControlGroup("", ""), -1);
  EXPECT_GT(AvailableMemoryBytes(), 0);
}

}  // namespace
}  // namespace vernier
