// An experiment over the wire: put, started, served, mirrored, judged, rolled back.
#include <gmock/gmock.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "tests/server/end_to_end.h"
#include "tests/server/metrics_page.h"
#include "vernier/v1/experiments.grpc.pb.h"

namespace vernier {
namespace {

using testing::GoldenRuns;
using ::testing::HasSubstr;
using testing::IdsRequest;

class ExperimentsEndToEndTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string path = ::testing::TempDir() + "experimentsXXXXXX";
    folder_ = mkdtemp(path.data());
    config_ = testing::StoryConfig(model_.path());
    config_.admin = "127.0.0.1:0";
    config_.experiments_folder = folder_;
    Restart();
  }
  void TearDown() override {
    Stop();
    std::filesystem::remove_all(folder_);
  }
  void Stop() {
    admin_.reset();
    if (running_.daemon != nullptr) running_.daemon->Stop();
    running_ = {};
  }
  void Restart() {
    Stop();
    running_ = testing::StartDaemon(config_);
    ASSERT_NE(running_.daemon, nullptr);
    admin_ = v1::Experiments::NewStub(testing::Connect(running_.daemon->admin_address()));
  }

  static v1::Experiment Halves(double shadow_share) {
    v1::Experiment out;
    out.set_id("halves");
    for (const char* variant : {"fp32", "nf4"}) {
      v1::ExperimentArm* arm = out.add_arms();
      arm->set_name(absl::StrCat("arm-", variant));
      arm->set_variant(variant);
    }
    out.add_ramp(1);
    out.set_shadow_share(shadow_share);
    v1::FeedbackMetric* thumbs = out.add_metrics();
    thumbs->set_name("thumbs");
    thumbs->set_type(v1::FeedbackMetric::BOOL);
    return out;
  }
  grpc::Status Put(const v1::Experiment& experiment) {
    grpc::ClientContext context;
    v1::PutExperimentRequest request;
    *request.mutable_experiment() = experiment;
    v1::Experiment reply;
    return admin_->Put(&context, request, &reply);
  }
  grpc::Status Do(v1::ControlExperimentRequest::Action action) {
    grpc::ClientContext context;
    v1::ControlExperimentRequest request;
    request.set_id("halves");
    request.set_action(action);
    v1::Experiment reply;
    return admin_->Control(&context, request, &reply);
  }
  v1::ExperimentReport Report(bool rebuild) {
    grpc::ClientContext context;
    v1::GetExperimentRequest request;
    request.set_id("halves");
    request.set_rebuild(rebuild);
    v1::ExperimentReport report;
    const grpc::Status status = admin_->Get(&context, request, &report);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return report;
  }
  // Who served a session's request.
  v1::ServedBy Ask(const std::string& session, const std::string& variant = "") {
    grpc::ClientContext context;
    if (!session.empty()) context.AddMetadata("x-vernier-routing-key", session);
    v1::GenerateRequest request = IdsRequest(GoldenRuns().front().prompt, 8);
    request.set_variant(variant);
    v1::GenerateResponse reply;
    const grpc::Status status = running_.inference->Generate(&context, request, &reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return reply.served_by();
  }
  v1::FeedbackResponse Say(const std::string& exposure, bool flag) {
    grpc::ClientContext context;
    v1::FeedbackResponse response;
    const auto writer = running_.inference->Feedback(&context, &response);
    v1::FeedbackEvent event;
    event.set_exposure_id(exposure);
    event.set_metric("thumbs");
    event.set_flag(flag);
    writer->Write(event);
    writer->WritesDone();
    const grpc::Status status = writer->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  testing::StoryModel model_;
  std::string folder_;
  ServerConfig config_;
  testing::RunningDaemon running_;
  std::unique_ptr<v1::Experiments::Stub> admin_;
};

TEST_F(ExperimentsEndToEndTest, EveryReplySaysItsArmAndTheReportCountsIt) {
  ASSERT_TRUE(Put(Halves(0)).ok());
  EXPECT_EQ(Ask("anna").experiment(), "");
  ASSERT_TRUE(Do(v1::ControlExperimentRequest::START).ok());
  std::map<std::string, int> by_arm;
  for (int i = 0; i < 16; ++i) {
    const std::string session = absl::StrCat("session", i % 8);
    const v1::ServedBy served = Ask(session);
    EXPECT_EQ(served.experiment(), "halves");
    EXPECT_EQ(served.arm(), absl::StrCat("arm-", served.variant()));
    EXPECT_EQ(Ask(session).arm(), served.arm()) << "a session keeps its arm";
    by_arm[served.arm()] += 2;
    EXPECT_EQ(Say(served.exposure_id(), i % 2 == 0).accepted(), 1u);
  }
  ASSERT_EQ(by_arm.size(), 2u);
  const v1::ServedBy forced = Ask("session0", "int8");
  EXPECT_EQ(forced.variant(), "int8");
  EXPECT_EQ(forced.arm(), "");
  const v1::ExperimentReport report = Report(/*rebuild=*/true);
  for (const v1::ArmReport& arm : report.arms()) {
    EXPECT_EQ(arm.requests(), static_cast<uint64_t>(by_arm[arm.arm()]));
    EXPECT_EQ(arm.ended(), arm.requests());
    EXPECT_EQ(arm.errors(), 0u);
  }
  EXPECT_EQ(report.forced(), 1u);
  EXPECT_EQ(report.feedback(), 16u);
  EXPECT_EQ(report.feedback_orphans(), 0u);
  EXPECT_EQ(report.SerializeAsString(), Report(/*rebuild=*/false).SerializeAsString());
  EXPECT_THAT(running_.daemon->RenderPage(),
              HasSubstr("vernier_exp_state{exp=\"halves\",state=\"running\"} 1"));

  const std::string before = Ask("session1").arm();
  Restart();
  EXPECT_EQ(Ask("session1").arm(), before);
  EXPECT_EQ(Report(/*rebuild=*/true).feedback(), 16u);
}

TEST_F(ExperimentsEndToEndTest, ShadowsAreScoredAndNobodyIsAnsweredByThem) {
  ASSERT_TRUE(Put(Halves(1)).ok());
  ASSERT_TRUE(Do(v1::ControlExperimentRequest::START).ok());
  uint64_t mirrored = 0;
  for (int i = 0; i < 12; ++i) mirrored += Ask(absl::StrCat("s", i)).arm() == "arm-fp32";
  ASSERT_GT(mirrored, 0u);
  v1::ShadowReport shadow;
  while (shadow.scored() + shadow.dropped() < mirrored)
    shadow = Report(/*rebuild=*/true).shadows(0);
  EXPECT_EQ(shadow.arm(), "arm-nf4");
  EXPECT_EQ(shadow.mirrored(), mirrored);
  ASSERT_GT(shadow.scored(), 0u);
  EXPECT_GT(shadow.kl_mean(), 0);
  EXPECT_LT(shadow.kl_mean(), 1);
  EXPECT_GT(shadow.top1_mean(), 0.3);
  EXPECT_GT(shadow.length_ratio_mean(), 0);
}

TEST_F(ExperimentsEndToEndTest, ADaemonStopsWhileShadowsAreAtWork) {
  ASSERT_TRUE(Put(Halves(1)).ok());
  ASSERT_TRUE(Do(v1::ControlExperimentRequest::START).ok());
  for (int i = 0; i < 6; ++i) Ask(absl::StrCat("s", i));
  Restart();
  EXPECT_GT(Report(/*rebuild=*/true).shadows(0).mirrored(), 0u);
}

TEST_F(ExperimentsEndToEndTest, AFaultAtAdministrationNamesItsField) {
  v1::Experiment wrong = Halves(0);
  wrong.mutable_arms(1)->set_variant("int4");
  const grpc::Status status = Put(wrong);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("arms[1].variant is int4"));
  EXPECT_EQ(Do(v1::ControlExperimentRequest::START).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(ExperimentsEndToEndTest, WithoutAFolderThereAreNone) {
  config_.experiments_folder.clear();
  Restart();
  const grpc::Status status = Put(Halves(0));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("experiments.folder"));
}

}  // namespace
}  // namespace vernier
