// How loading is told: how often, and in which words.
#include "server/load_log.h"

#include <gtest/gtest.h>

namespace vernier {
namespace {

TEST(LoadLogTest, ALineEveryTwoSecondsWithTheTimeLeft) {
  LoadLog log(absl::Seconds(100));
  LoadProgress progress{.tensors_total = 10, .bytes_total = 400'000'000};
  EXPECT_EQ(log.Next(progress, absl::Seconds(101)), std::nullopt);
  EXPECT_EQ(log.Next(progress, absl::Seconds(102)), "loading: 0.0 of 400.0 MB, tensor 0 of 10");
  progress.tensors_done = 2;
  progress.bytes_done = 100'000'000;
  EXPECT_EQ(log.Next(progress, absl::Seconds(103)), std::nullopt);
  EXPECT_EQ(log.Next(progress, absl::Seconds(104)),
            "loading: 100.0 of 400.0 MB, tensor 2 of 10 (25 %), 12 s left");
  EXPECT_EQ(log.Next(progress, absl::Seconds(105)), std::nullopt);
}

TEST(LoadLogTest, TheEndSaysTheSpeedAndWhatWasCompared) {
  LoadLog log(absl::ZeroDuration());
  log.Next({10, 10, 400'000'000, 400'000'000}, absl::Seconds(1));
  Model model;
  EXPECT_EQ(log.Last(model, absl::Seconds(2)),
            "loaded 400.0 MB of weights in 2.00 s (200 MB/s), integrity: structure only");
  model.integrity = Integrity::kManifest;
  EXPECT_EQ(log.Last(model, absl::ZeroDuration()),
            "loaded 400.0 MB of weights in 0.00 s, integrity: manifest");
}

}  // namespace
}  // namespace vernier
