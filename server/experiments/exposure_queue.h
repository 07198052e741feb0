// A bounded queue of records from any threads to one, without locks: a push takes one compare and
// swap, and fails where the queue is full (Vyukov's bounded queue, 2010).
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/base/check.h"
#include "server/experiments/exposure_record.h"

namespace vernier {

class ExposureQueue {
 public:
  // REQUIRES: `capacity` is a power of two.
  explicit ExposureQueue(size_t capacity)
      : mask_(capacity - 1), cells_(std::make_unique<Cell[]>(capacity)) {
    VERNIER_CHECK(std::has_single_bit(capacity));
    for (size_t i = 0; i < capacity; ++i) cells_[i].turn.store(i, std::memory_order_relaxed);
  }

  // Any thread; false: full.
  bool Push(const ExposureRecord& record) {
    uint64_t position = tail_.load(std::memory_order_relaxed);
    for (;;) {
      Cell& cell = cells_[position & mask_];
      const auto ahead = static_cast<int64_t>(cell.turn.load(std::memory_order_acquire) - position);
      if (ahead < 0) return false;
      if (ahead > 0) {  // somebody else took this place
        position = tail_.load(std::memory_order_relaxed);
      } else if (tail_.compare_exchange_weak(position, position + 1, std::memory_order_relaxed)) {
        cell.record = record;
        cell.turn.store(position + 1, std::memory_order_release);
        return true;
      }
    }
  }

  // One thread; false: empty, or the next record is still being copied in.
  bool Pop(ExposureRecord* record) {
    Cell& cell = cells_[head_ & mask_];
    if (cell.turn.load(std::memory_order_acquire) != head_ + 1) return false;
    *record = cell.record;
    cell.turn.store(head_ + mask_ + 1, std::memory_order_release);
    ++head_;
    return true;
  }

 private:
  struct Cell {
    std::atomic<uint64_t> turn;  // position: free for it; position + 1: holds its record
    ExposureRecord record;
  };

  const uint64_t mask_;
  const std::unique_ptr<Cell[]> cells_;
  alignas(64) std::atomic<uint64_t> tail_{0};
  alignas(64) uint64_t head_ = 0;  // of the one who pops
};

}  // namespace vernier
