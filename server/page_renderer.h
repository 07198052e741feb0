// Keeps the metrics page ready, so that a scrape seldom waits for it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "kernels/base/mutex.h"

namespace vernier {

enum class PageFormat { kPrometheus, kOpenMetrics };

struct PageAges {
  absl::Duration most = absl::Milliseconds(50);   // a page this old is not served
  absl::Duration renew = absl::Milliseconds(25);  // one this old is rendered anew, for the next
  // No renewal when nobody has asked for that long: the pause after which an endpoint picker calls
  // a pod stale.
  absl::Duration idle = absl::Milliseconds(200);
};

// Renders on a thread of its own. Whoever scrapes often finds a page that is there already; after a
// pause the first has to wait for one, and all who wait get the same.
class PageRenderer {
 public:
  using Page = std::shared_ptr<const std::string>;
  using Done = std::function<void(Page)>;

  PageRenderer(std::function<std::string(PageFormat)> render, const PageAges& ages);
  ~PageRenderer();  // who still waits hears nothing

  // The page when it is fresh. Else null, and `done` is called with one, on the renderer's thread.
  Page Get(PageFormat format, Done done);

 private:
  using Time = std::chrono::steady_clock::time_point;
  struct Slot {
    Page page;
    Time rendered;  // when its rendering began
    Time asked;
    std::vector<Done> waiting;
  };

  void Run();
  // Waits for a slot to render; -1: stopping.
  int Next();
  // How long until `slot` is to be rendered; zero: now; negative: not before somebody asks.
  std::chrono::nanoseconds DueIn(const Slot& slot, Time now) const;

  const std::function<std::string(PageFormat)> render_;
  const std::chrono::nanoseconds most_, renew_, idle_;
  Mutex mutex_;
  CondVar wake_;
  Slot slots_[2] ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace vernier
