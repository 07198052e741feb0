#include "server/page_renderer.h"

#include <algorithm>
#include <utility>

#include "server/short_slice.h"

namespace vernier {
namespace {

constexpr std::chrono::nanoseconds kNever{-1};
constexpr std::chrono::nanoseconds kLongWait = std::chrono::hours(1);

}  // namespace

PageRenderer::PageRenderer(std::function<std::string(PageFormat)> render, const PageAges& ages)
    : render_(std::move(render)),
      most_(absl::ToChronoNanoseconds(ages.most)),
      renew_(absl::ToChronoNanoseconds(ages.renew)),
      idle_(absl::ToChronoNanoseconds(ages.idle)),
      thread_([this] { Run(); }) {}

PageRenderer::~PageRenderer() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  wake_.NotifyAll();
  thread_.join();
}

PageRenderer::Page PageRenderer::Get(PageFormat format, Done done) {
  const Time now = std::chrono::steady_clock::now();
  Page fresh;
  {
    MutexLock lock(&mutex_);
    Slot& slot = slots_[static_cast<int>(format)];
    const bool renewing = slot.page != nullptr && now - slot.asked < idle_;
    slot.asked = now;
    if (slot.page != nullptr && now - slot.rendered < most_) fresh = slot.page;
    if (fresh == nullptr) slot.waiting.push_back(std::move(done));
    if (renewing && fresh != nullptr) return fresh;
  }
  wake_.NotifyAll();
  return fresh;
}

std::chrono::nanoseconds PageRenderer::DueIn(const Slot& slot, Time now) const {
  if (!slot.waiting.empty()) return std::chrono::nanoseconds::zero();
  if (slot.page == nullptr || now - slot.asked >= idle_) return kNever;
  return std::max<std::chrono::nanoseconds>(renew_ - (now - slot.rendered),
                                            std::chrono::nanoseconds::zero());
}

int PageRenderer::Next() {
  MutexLock lock(&mutex_);
  while (!stopping_) {
    const Time now = std::chrono::steady_clock::now();
    std::chrono::nanoseconds soonest = kLongWait;
    for (int format = 0; format < 2; ++format) {
      const std::chrono::nanoseconds due = DueIn(slots_[format], now);
      if (due == std::chrono::nanoseconds::zero()) return format;
      if (due != kNever) soonest = std::min(soonest, due);
    }
    wake_.WaitFor(&mutex_, soonest);
  }
  return -1;
}

void PageRenderer::Run() {
  AskForShortSlice();  // somebody may wait
  for (int format = Next(); format >= 0; format = Next()) {
    const Time began = std::chrono::steady_clock::now();
    const Page page = std::make_shared<const std::string>(render_(static_cast<PageFormat>(format)));
    std::vector<Done> waiting;
    {
      MutexLock lock(&mutex_);
      slots_[format].page = page;
      slots_[format].rendered = began;
      waiting.swap(slots_[format].waiting);
    }
    for (const Done& done : waiting) done(page);
  }
}

}  // namespace vernier
