// The exposures of every experiment, on disk: what a report is rebuilt from.
//
// Append never blocks, allocates or locks: it copies a record into a queue, from which one thread
// writes segments `exposures-NNNNNNNN.log` into a folder and syncs them every `sync_period`. What
// finds the queue full is counted as dropped. A kill -9 loses at most what came since the last
// sync that the system had not written, and nothing before: a record that was cut is skipped by its
// checksum, and a start begins a new segment.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/base/mutex.h"
#include "server/experiments/exposure_queue.h"
#include "server/experiments/exposure_record.h"

namespace vernier {

struct ExposureLogOptions {
  std::string folder;
  size_t queue_records = size_t{1} << 14;  // 1.6 s at 10,000 requests a second; a power of two
  int64_t segment_bytes = 64 << 20;
  absl::Duration write_period = absl::Milliseconds(20);
  absl::Duration sync_period = absl::Seconds(1);
  // Called by the writing thread with what it has just written, in its order.
  std::function<void(std::span<const ExposureRecord>)> observer = [](auto) {};
};

class ExposureLog {
 public:
  // Makes the folder where it is not; a new segment behind the last one that is there. Errors name
  // the path.
  static absl::StatusOr<std::unique_ptr<ExposureLog>> Open(const ExposureLogOptions& options);
  // Writes and syncs what was logged.
  ~ExposureLog();
  ExposureLog(const ExposureLog&) = delete;
  ExposureLog& operator=(const ExposureLog&) = delete;

  // Any thread. The checksum is the log's own to set.
  void Append(const ExposureRecord& record) {
    if (!queue_.Push(record)) dropped_.fetch_add(1, std::memory_order_relaxed);
  }

  // Records that found the queue full, or that could not be written.
  int64_t Dropped() const { return dropped_.load(std::memory_order_relaxed); }
  int64_t Written() const { return written_.load(std::memory_order_relaxed); }
  // Returns when everything logged before the call is on disk, or its error.
  absl::Status Flush();

 private:
  ExposureLog(const ExposureLogOptions& options, int64_t segment);
  absl::Status BeginSegment();
  absl::Status Drain();
  absl::Status Sync();
  void Run();

  const ExposureLogOptions options_;
  ExposureQueue queue_;
  std::atomic<int64_t> dropped_{0};
  std::atomic<int64_t> written_{0};

  // The writing thread's own.
  int64_t segment_;
  int descriptor_ = -1;
  int64_t segment_used_ = 0;
  bool unsynced_ = false;

  Mutex mutex_;
  CondVar wake_;
  uint64_t flushes_asked_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t flushes_done_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status flush_status_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

struct ExposureReading {
  int64_t records = 0;
  int64_t skipped_bytes = 0;  // cut or damaged
};

// Every whole record of a log's folder in the order written. Files are read as they are: one that
// is being written ends where it ends. NOT_FOUND without the folder; the file's errors.
absl::StatusOr<ExposureReading> ReadExposures(
    const std::string& folder, const std::function<void(const ExposureRecord&)>& record);

}  // namespace vernier
