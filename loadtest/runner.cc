#include "loadtest/runner.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <thread>
#include <unordered_map>
#include <utility>

#include "kernels/base/mutex.h"
#include "loadtest/metrics_page.h"

namespace vernier::loadtest {
namespace {

constexpr double kScrapeSeconds = 0.5;
constexpr double kProgressSeconds = 1;
constexpr double kStopSeconds = 0.1;      // how soon a stop is seen
constexpr double kLastWordsSeconds = 30;  // for calls that were cancelled to end
constexpr double kNever = std::numeric_limits<double>::infinity();

std::chrono::nanoseconds Nanoseconds(double seconds) {
  return std::chrono::nanoseconds(static_cast<int64_t>(std::clamp(seconds, 0.0, 1.0) * 1e9));
}

// Reads the metrics page every half second, on its own thread, while it lives.
class Scraper {
 public:
  Scraper(const std::string& address, std::function<double()> now)
      : address_(address), now_(std::move(now)) {
    if (!address_.empty()) thread_ = std::thread([this] { Loop(); });
  }
  ~Scraper() { Stop(); }

  std::vector<TimelinePoint> Stop() {
    {
      MutexLock lock(&mutex_);
      stopping_ = true;
    }
    changed_.NotifyAll();
    if (thread_.joinable()) thread_.join();
    return std::move(points_);
  }

 private:
  void Loop() {
    double next = 0;
    while (true) {
      const double at = now_();
      if (const auto page = FetchMetrics(address_); page.ok()) {
        points_.push_back(ParseMetrics(*page, at));
      }
      next = std::max(next + kScrapeSeconds, now_());
      MutexLock lock(&mutex_);
      while (!stopping_ && now_() < next) changed_.WaitFor(&mutex_, Nanoseconds(next - now_()));
      if (stopping_) return;
    }
  }

  const std::string address_;
  const std::function<double()> now_;
  std::vector<TimelinePoint> points_;  // the thread's own until it is joined
  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

class Runner {
 public:
  Runner(const RunOptions& options, const std::vector<double>& arrivals, Workload* workload,
         Client* client, const std::atomic<bool>& stop,
         const std::function<void(const Progress&)>& progress)
      : options_(options),
        arrivals_(arrivals),
        workload_(workload),
        client_(client),
        stop_(stop),
        progress_(progress) {}

  double Now() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
  }

  RunResult Run(const std::string& metrics_address) {
    const std::function<double()> now = [this] { return Now(); };
    Scraper scraper(metrics_address, now);
    Send();
    const double last = Now();
    const double scheduled_until = closed_loop() ? last : std::max(last, options_.arrivals.seconds);
    WaitForEnds(last + options_.give_up_seconds);
    CancelAll();
    WaitForEnds(Now() + kLastWordsSeconds);
    RunResult result;
    result.timeline = scraper.Stop();
    result.stopped = stop_;
    result.window = {options_.warmup_seconds, std::max(options_.warmup_seconds, scheduled_until)};
    if (options_.arrivals.max_requests > 0 || result.stopped) result.window.until = last;
    MutexLock lock(&mutex_);
    result.outcomes = std::move(outcomes_);
    result.errors = std::move(errors_);
    return result;
  }

 private:
  bool closed_loop() const { return options_.concurrency > 0; }

  // When the next request is due; kNever while a closed loop has no client free; < 0: none is left.
  double NextDue() {
    if (stop_) return -1;
    if (!closed_loop()) {
      return sent_ < static_cast<int64_t>(arrivals_.size()) ? arrivals_[static_cast<size_t>(sent_)]
                                                            : -1;
    }
    const bool enough =
        options_.arrivals.max_requests > 0 && sent_ >= options_.arrivals.max_requests;
    if (enough || Now() >= options_.arrivals.seconds) return -1;
    MutexLock lock(&mutex_);
    return static_cast<int>(alive_.size()) < options_.concurrency ? Now() : kNever;
  }

  void Send() {
    while (true) {
      const double due = NextDue();
      if (due < 0) return;
      if (due <= Now()) {
        StartOne(closed_loop() ? Now() : due);
      } else {
        WaitUntil(due);
      }
      TellProgress();
    }
  }

  // Or until something ends in a closed loop, progress is due, or a stop may have come.
  void WaitUntil(double due) {
    const double until = std::min({due, next_progress_, Now() + kStopSeconds});
    MutexLock lock(&mutex_);
    if (closed_loop() && static_cast<int>(alive_.size()) < options_.concurrency) return;
    const double left = until - Now();
    if (left > 0) ended_.WaitFor(&mutex_, Nanoseconds(left));
  }

  void StartOne(double scheduled) {
    const int64_t id = sent_++;
    {
      MutexLock lock(&mutex_);
      alive_[id] = nullptr;
    }
    auto cancel = client_->Start(
        *workload_, workload_->Next(), options_, scheduled, [this] { return Now(); },
        [this, id](CallResult result) { OnEnd(id, std::move(result)); });
    MutexLock lock(&mutex_);
    if (const auto call = alive_.find(id); call != alive_.end()) call->second = std::move(cancel);
  }

  // By a thread of gRPC. Nothing of this is touched after the lock is released: the run may be
  // over.
  void OnEnd(int64_t id, CallResult result) {
    MutexLock lock(&mutex_);
    completed_ += result.outcome.ending == Ending::kCompleted;
    refused_ += result.outcome.ending == Ending::kRefused;
    if (result.outcome.first >= 0) {
      recent_first_.push_back(result.outcome.first - result.outcome.scheduled);
    }
    if (!result.error.empty()) ++errors_[result.error];
    outcomes_.push_back(std::move(result.outcome));
    alive_.erase(id);
    ended_.NotifyAll();
  }

  void TellProgress() {
    if (Now() < next_progress_) return;
    next_progress_ = Now() + kProgressSeconds;
    Progress now;
    std::vector<double> recent;
    {
      MutexLock lock(&mutex_);
      now = {Now(), sent_, completed_, refused_, 0, static_cast<int64_t>(alive_.size()), 0};
      now.other = static_cast<int64_t>(outcomes_.size()) - completed_ - refused_;
      recent.swap(recent_first_);
    }
    now.first_token_p50 = PercentilesOf(std::move(recent)).p50;
    progress_(now);
  }

  void WaitForEnds(double until) {
    while (true) {
      TellProgress();
      MutexLock lock(&mutex_);
      if (alive_.empty() || Now() >= until || (stop_ && until > Now() + kLastWordsSeconds)) return;
      ended_.WaitFor(&mutex_, Nanoseconds(std::min(until - Now(), kStopSeconds)));
    }
  }

  void CancelAll() {
    std::vector<std::function<void()>> cancels;
    {
      MutexLock lock(&mutex_);
      for (const auto& [id, cancel] : alive_) {
        if (cancel != nullptr) cancels.push_back(cancel);
      }
    }
    for (const auto& cancel : cancels) cancel();
  }

  const RunOptions& options_;
  const std::vector<double>& arrivals_;
  Workload* const workload_;
  Client* const client_;
  const std::atomic<bool>& stop_;
  const std::function<void(const Progress&)>& progress_;
  const std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();

  int64_t sent_ = 0;  // the sending thread's
  double next_progress_ = kProgressSeconds;

  Mutex mutex_;
  CondVar ended_;
  std::unordered_map<int64_t, std::function<void()>> alive_ ABSL_GUARDED_BY(mutex_);
  std::vector<Outcome> outcomes_ ABSL_GUARDED_BY(mutex_);
  std::vector<double> recent_first_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int64_t> errors_ ABSL_GUARDED_BY(mutex_);
  int64_t completed_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t refused_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

RunResult Run(const RunOptions& options, const std::vector<double>& arrivals,
              const std::string& metrics_address, Workload* workload, Client* client,
              const std::atomic<bool>& stop, const std::function<void(const Progress&)>& progress) {
  return Runner(options, arrivals, workload, client, stop, progress).Run(metrics_address);
}

}  // namespace vernier::loadtest
