// What a restart finds again.
#include "server/experiments/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

namespace vernier {
namespace {

class StoreTest : public ::testing::Test {
 protected:
  StoreTest() {
    std::string path = ::testing::TempDir() + "storeXXXXXX";
    folder_ = mkdtemp(path.data());
  }
  ~StoreTest() override { std::filesystem::remove_all(folder_); }
  std::unique_ptr<ExperimentStore> Open() {
    auto store = ExperimentStore::Open(folder_ + "/e.sqlite");
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  }
  static v1::Experiment Named(const std::string& id, uint64_t version) {
    v1::Experiment out;
    out.set_id(id);
    out.set_version(version);
    return out;
  }

  std::string folder_;
};

TEST_F(StoreTest, AnExperimentKeepsItsNumber) {
  uint32_t number = 0;
  {
    const auto store = Open();
    EXPECT_EQ(*store->Save(Named("b", 1), 1), 1u);
    number = *store->Save(Named("a", 1), 2);
    EXPECT_EQ(*store->Save(Named("a", 2), 3), number);
  }
  const auto stored = Open()->Experiments();
  ASSERT_TRUE(stored.ok()) << stored.status();
  ASSERT_EQ(stored->size(), 2u);
  EXPECT_EQ((*stored)[0].message.id(), "a");
  EXPECT_EQ((*stored)[0].message.version(), 2u);
  EXPECT_EQ((*stored)[0].number, number);
}

TEST_F(StoreTest, FeedbackOfOneKeyCountsOnceAndTheLastOfASourceCounts) {
  const auto store = Open();
  StoredFeedback feedback{.experiment = 1, .metric = "thumbs", .source = "app", .value = 1};
  feedback.exposure[3] = 9;
  EXPECT_EQ(*store->SaveFeedback(feedback), FeedbackTaken::kNew);
  feedback.value = 0;
  feedback.key = "k";
  EXPECT_EQ(*store->SaveFeedback(feedback), FeedbackTaken::kReplaced);
  feedback.value = 1;
  EXPECT_EQ(*store->SaveFeedback(feedback), FeedbackTaken::kDuplicate);
  feedback.key = "another";
  feedback.source = "judge";
  feedback.text = "so-so";
  EXPECT_EQ(*store->SaveFeedback(feedback), FeedbackTaken::kNew);
  std::vector<StoredFeedback> all;
  ASSERT_TRUE(store->EachFeedback(1, [&](const StoredFeedback& f) { all.push_back(f); }).ok());
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].value, 0);
  EXPECT_EQ(all[1].text, "so-so");
  EXPECT_EQ(all[1].exposure, feedback.exposure);
  ASSERT_TRUE(store->EachFeedback(2, [&](const StoredFeedback&) { FAIL(); }).ok());
}

TEST_F(StoreTest, AFileThatIsNoDatabaseIsAnErrorThatNamesIt) {
  std::filesystem::create_directory(folder_ + "/e.sqlite");
  const auto store = ExperimentStore::Open(folder_ + "/e.sqlite");
  EXPECT_EQ(store.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(store.status().message(), ::testing::HasSubstr("e.sqlite"));
}

}  // namespace
}  // namespace vernier
