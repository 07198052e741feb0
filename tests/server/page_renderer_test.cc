#include "server/page_renderer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <string>

#include "absl/strings/str_cat.h"

namespace vernier {
namespace {

constexpr absl::Duration kLong = absl::Hours(1);

class PageRendererTest : public ::testing::Test {
 protected:
  void Start(
      const PageAges& ages, std::function<void(int)> rendering = [](int) {}) {
    renderer_ = std::make_unique<PageRenderer>(
        [this, rendering](PageFormat format) {
          const int number = ++renders_;
          rendering(number);
          return absl::StrCat(format == PageFormat::kOpenMetrics ? "open " : "plain ", number);
        },
        ages);
  }
  // The page, waited for when there is none.
  std::string Get(PageFormat format = PageFormat::kPrometheus) {
    std::promise<std::string> promise;
    const PageRenderer::Page page =
        renderer_->Get(format, [&](PageRenderer::Page late) { promise.set_value(*late); });
    return page != nullptr ? *page : promise.get_future().get();
  }

  std::atomic<int> renders_{0};
  std::unique_ptr<PageRenderer> renderer_;
};

TEST_F(PageRendererTest, OnePageServesAllWhoAskWhileItIsFresh) {
  Start({.most = kLong, .renew = kLong, .idle = kLong});
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Get(), "plain 1");
  EXPECT_EQ(Get(PageFormat::kOpenMetrics), "open 2");
}

TEST_F(PageRendererTest, APageThatIsTooOldIsNeverServed) {
  Start({.most = absl::ZeroDuration(), .renew = kLong, .idle = kLong});
  for (int i = 1; i < 4; ++i) EXPECT_EQ(Get(), absl::StrCat("plain ", i));
}

TEST_F(PageRendererTest, AScrapeDoesNotWaitForTheRenewal) {
  std::promise<void> renewing, let_go;
  Start({.most = kLong, .renew = absl::ZeroDuration(), .idle = kLong}, [&](int number) {
    if (number != 2) return;
    renewing.set_value();
    let_go.get_future().wait();
  });
  EXPECT_EQ(Get(), "plain 1");
  renewing.get_future().wait();
  EXPECT_EQ(Get(), "plain 1");
  let_go.set_value();
  renderer_.reset();  // while what it calls is still here
}

TEST_F(PageRendererTest, NothingIsRenewedForNobody) {
  Start({.most = kLong, .renew = absl::ZeroDuration(), .idle = absl::ZeroDuration()});
  EXPECT_EQ(Get(), "plain 1");
  // What is rendered next comes of this request alone.
  EXPECT_EQ(Get(PageFormat::kOpenMetrics), "open 2");
  EXPECT_EQ(renders_.load(), 2);
}

}  // namespace
}  // namespace vernier
