// A backend that computes nothing and counts what loading does to memory.
//
// One thread. The ledger is shared with the checkpoint that feeds it, so that its peak is that of
// the whole load; it takes any threads, since loading reads one tensor while it packs another.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "kernels/backend.h"
#include "kernels/base/mutex.h"
#include "kernels/quant_format.h"

namespace vernier::testing {

class MemoryLedger {
 public:
  void Add(int64_t bytes) {
    const MutexLock lock(&mutex_);
    live_bytes_ += bytes;
    peak_bytes_ = std::max(peak_bytes_, live_bytes_);
  }
  int64_t live_bytes() const {
    const MutexLock lock(&mutex_);
    return live_bytes_;
  }
  int64_t peak_bytes() const {
    const MutexLock lock(&mutex_);
    return peak_bytes_;
  }

 private:
  mutable Mutex mutex_;
  int64_t live_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t peak_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Counts `bytes` as held while it lives.
class LedgerEntry {
 public:
  LedgerEntry(MemoryLedger* ledger, int64_t bytes) : ledger_(ledger), bytes_(bytes) {
    ledger_->Add(bytes_);
  }
  ~LedgerEntry() { ledger_->Add(-bytes_); }
  LedgerEntry(const LedgerEntry&) = delete;
  LedgerEntry& operator=(const LedgerEntry&) = delete;

 private:
  MemoryLedger* const ledger_;
  const int64_t bytes_;
};

class CountingBackend : public Backend {
 public:
  explicit CountingBackend(MemoryLedger* ledger) : ledger_(ledger) {}

  // By tensor name: the formats that were packed, in order, and how often each was asked for.
  const std::map<std::string, std::vector<FormatId>>& packed() const { return packed_; }
  int create_calls() const { return create_calls_; }

  bool int8_activations = false;
  bool HasActivations(Activations activations, FormatId format) const override {
    return activations == Activations::kFull ||
           (activations == Activations::kBF16 && format == FormatId::kBF16) ||
           (activations == Activations::kInt8 && int8_activations && format != FormatId::kNf4);
  }

  std::string Describe() const override { return "counting"; }
  int Threads() const override { return 1; }

  // Holds what a real backend may: the results and one canonical copy.
  absl::StatusOr<std::vector<Weight>> CreateWeights(const WeightSource& source,
                                                    std::span<const FormatId> formats) override {
    ++create_calls_;
    std::vector<float> row(source.cols);
    if (absl::Status status = source.read(0, 1, row.data()); !status.ok()) return status;
    std::vector<Weight> weights;
    for (const FormatId format : formats) {
      const int64_t bytes = FormatBytes(format, source.rows, source.cols);
      const LedgerEntry canonical(ledger_, bytes);
      weights.push_back({.format = format,
                         .rows = source.rows,
                         .cols = source.cols,
                         .bytes = bytes,
                         .packed = std::make_shared<LedgerEntry>(ledger_, bytes)});
      packed_[source.name].push_back(format);
    }
    return weights;
  }
  absl::StatusOr<Vector> CreateVector(std::span<const float> values) override {
    auto copy = std::make_shared<std::vector<float>>(values.begin(), values.end());
    return Vector{.size = static_cast<int64_t>(values.size()),
                  .values = std::shared_ptr<const float>(copy, copy->data())};
  }
  absl::Status CreateWorkspace(const WorkspacePlan&) override { return absl::OkStatus(); }
  BackendMemory Memory() const override { return {}; }
  void Execute(const StepKey&, const Batch&, absl::FunctionRef<void()> forward) override {
    forward();
  }
  absl::Status Synchronize() override { return absl::OkStatus(); }
  void Embed(const EmbedArgs&) override {}
  void AttentionIn(const AttentionInArgs&) override {}
  void Attention(const AttentionArgs&) override {}
  void AttentionOut(const ResidualArgs&) override {}
  void MlpIn(const MlpInArgs&) override {}
  void MlpOut(const ResidualArgs&) override {}
  void LmHead(const LmHeadArgs&) override {}
  void Sample(std::span<const SampleRow>, std::span<SampleResult>) override {}
  void Score(const ScoreArgs&) override {}
  absl::Status CopyActivation(Activation, std::span<float>) override {
    return absl::UnimplementedError("the counting backend computes nothing");
  }

 private:
  MemoryLedger* const ledger_;
  std::map<std::string, std::vector<FormatId>> packed_;
  int create_calls_ = 0;
};

}  // namespace vernier::testing
