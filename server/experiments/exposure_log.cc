#include "server/experiments/exposure_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "kernels/base/log.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace vernier {
namespace {

constexpr char kMagic[16] = "VERNIER EXP 001";  // with its zero: 16 bytes
constexpr int64_t kBatchRecords = 512;

uint32_t ChecksumOf(const ExposureRecord& record) {
  constexpr size_t kAfter = offsetof(ExposureRecord, checksum) + sizeof(record.checksum);
  const auto* bytes = reinterpret_cast<const char*>(&record);
  return static_cast<uint32_t>(XXH3_64bits(bytes + kAfter, sizeof(record) - kAfter));
}

std::string SegmentPath(const std::string& folder, int64_t segment) {
  return absl::StrCat(folder, "/", absl::StrFormat("exposures-%08d.log", segment));
}

// The numbers of a folder's segments, ascending.
absl::StatusOr<std::vector<int64_t>> SegmentsOf(const std::string& folder) {
  std::error_code error;
  std::vector<int64_t> segments;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    absl::string_view number = name;
    int64_t segment = 0;
    if (absl::ConsumePrefix(&number, "exposures-") && absl::ConsumeSuffix(&number, ".log") &&
        absl::SimpleAtoi(number, &segment) && segment >= 0) {
      segments.push_back(segment);
    }
  }
  if (error) {
    return absl::NotFoundError(absl::StrCat("exposure log ", folder, ": ", error.message()));
  }
  std::sort(segments.begin(), segments.end());
  return segments;
}

absl::Status WriteAll(int descriptor, const char* bytes, size_t size) {
  while (size > 0) {
    const ssize_t wrote = write(descriptor, bytes, size);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return absl::ErrnoToStatus(errno, "writing the exposure log");
    bytes += wrote;
    size -= static_cast<size_t>(wrote);
  }
  return absl::OkStatus();
}

bool IsWhole(const ExposureRecord& record) {
  return record.size == ExposureRecord::kBytes && record.layout == ExposureRecord::kLayout &&
         record.checksum == ChecksumOf(record);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ExposureLog>> ExposureLog::Open(const ExposureLogOptions& options) {
  std::error_code error;
  std::filesystem::create_directories(options.folder, error);
  if (error) {
    return absl::UnavailableError(
        absl::StrCat("exposure log ", options.folder, ": ", error.message()));
  }
  const absl::StatusOr<std::vector<int64_t>> segments = SegmentsOf(options.folder);
  if (!segments.ok()) return segments.status();
  const int64_t next = segments->empty() ? 0 : segments->back() + 1;
  std::unique_ptr<ExposureLog> log(new ExposureLog(options, next));
  if (absl::Status status = log->BeginSegment(); !status.ok()) return status;
  log->thread_ = std::thread([raw = log.get()] { raw->Run(); });
  return log;
}

ExposureLog::ExposureLog(const ExposureLogOptions& options, int64_t segment)
    : options_(options), queue_(options.queue_records), segment_(segment) {}

ExposureLog::~ExposureLog() {
  if (thread_.joinable()) {
    {
      MutexLock lock(&mutex_);
      stopping_ = true;
    }
    wake_.NotifyAll();
    thread_.join();
  }
  if (descriptor_ >= 0) close(descriptor_);
}

absl::Status ExposureLog::BeginSegment() {
  const std::string path = SegmentPath(options_.folder, segment_);
  const int descriptor =
      open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0640);
  if (descriptor < 0) return absl::ErrnoToStatus(errno, absl::StrCat("exposure log ", path));
  if (descriptor_ >= 0) close(descriptor_);
  descriptor_ = descriptor;
  segment_used_ = sizeof(kMagic);
  unsynced_ = true;
  ++segment_;
  return WriteAll(descriptor_, kMagic, sizeof(kMagic));
}

// What is in the queue, into the segment.
absl::Status ExposureLog::Drain() {
  std::vector<ExposureRecord> batch;
  for (;;) {
    batch.clear();
    ExposureRecord record;
    while (static_cast<int64_t>(batch.size()) < kBatchRecords && queue_.Pop(&record)) {
      record.checksum = ChecksumOf(record);
      batch.push_back(record);
    }
    if (batch.empty()) return absl::OkStatus();
    const auto count = static_cast<int64_t>(batch.size());
    const int64_t bytes = count * ExposureRecord::kBytes;
    absl::Status status;
    if (segment_used_ + bytes > options_.segment_bytes) {
      status = Sync();
      if (status.ok()) status = BeginSegment();
    }
    if (status.ok()) {
      status = WriteAll(descriptor_, reinterpret_cast<const char*>(batch.data()),
                        static_cast<size_t>(bytes));
    }
    if (!status.ok()) {
      dropped_.fetch_add(count, std::memory_order_relaxed);
      segment_used_ = options_.segment_bytes;  // its last record may be cut: go on in another
      return status;
    }
    segment_used_ += bytes;
    unsynced_ = true;
    written_.fetch_add(count, std::memory_order_relaxed);
    options_.observer(batch);
  }
}

absl::Status ExposureLog::Sync() {
  if (!unsynced_) return absl::OkStatus();
  if (fdatasync(descriptor_) != 0) return absl::ErrnoToStatus(errno, "syncing the exposure log");
  unsynced_ = false;
  return absl::OkStatus();
}

void ExposureLog::Run() {
  using Clock = std::chrono::steady_clock;
  const auto write_period = absl::ToChronoNanoseconds(options_.write_period);
  const auto sync_period = absl::ToChronoNanoseconds(options_.sync_period);
  Clock::time_point synced = Clock::now();
  bool failing = false;
  for (bool last = false; !last;) {
    uint64_t asked = 0, done = 0;
    {
      MutexLock lock(&mutex_);
      if (!stopping_ && flushes_asked_ == flushes_done_) wake_.WaitFor(&mutex_, write_period);
      last = stopping_;
      asked = flushes_asked_;
      done = flushes_done_;
    }
    absl::Status status = Drain();
    if (last || asked != done || Clock::now() - synced >= sync_period) {
      synced = Clock::now();
      if (absl::Status theirs = Sync(); status.ok()) status = std::move(theirs);
    }
    // Once for each time that it begins to fail: serving goes on, the counter tells the rest.
    if (!status.ok() && !failing) Log(LogLevel::kError, std::string(status.message()));
    failing = !status.ok();
    {
      MutexLock lock(&mutex_);
      flushes_done_ = asked;
      flush_status_ = std::move(status);
    }
    wake_.NotifyAll();
  }
}

absl::Status ExposureLog::Flush() {
  MutexLock lock(&mutex_);
  const uint64_t mine = ++flushes_asked_;
  wake_.NotifyAll();
  while (flushes_done_ < mine) wake_.Wait(&mutex_);
  return flush_status_;
}

absl::StatusOr<ExposureReading> ReadExposures(
    const std::string& folder, const std::function<void(const ExposureRecord&)>& record) {
  const absl::StatusOr<std::vector<int64_t>> segments = SegmentsOf(folder);
  if (!segments.ok()) return segments.status();
  ExposureReading reading;
  for (const int64_t segment : *segments) {
    const std::string path = SegmentPath(folder, segment);
    std::ifstream file(path, std::ios::binary);
    if (!file) return absl::ErrnoToStatus(errno, absl::StrCat("exposure log ", path));
    char magic[sizeof(kMagic)] = {};
    file.read(magic, sizeof(magic));
    if (file.gcount() != sizeof(magic) || std::memcmp(magic, kMagic, sizeof(magic)) != 0) {
      reading.skipped_bytes += file.gcount();
      continue;  // cut before its first record, or another layout's
    }
    ExposureRecord next;
    for (;;) {
      file.read(reinterpret_cast<char*>(&next), sizeof(next));
      if (file.gcount() == 0) break;
      if (file.gcount() < static_cast<std::streamsize>(sizeof(next)) || !IsWhole(next)) {
        reading.skipped_bytes += file.gcount();
        continue;
      }
      ++reading.records;
      record(next);
    }
  }
  return reading;
}

}  // namespace vernier
