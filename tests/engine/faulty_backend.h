// A backend that computes as another does, until the test breaks or holds it.
//
// The test's thread gives orders, the device thread obeys; every other call goes through.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "kernels/base/mutex.h"

namespace vernier::testing {

class FaultyBackend : public Backend {
 public:
  explicit FaultyBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}

  // Synchronize fails from the `steps`-th call from now on, 0 being the next.
  void FailAfter(int steps) {
    MutexLock lock(&mutex_);
    steps_until_failure_ = steps;
  }
  // Rows sampled with this seed hold NaN from now on; the first row of every score holds infinity,
  // in its reference where there is one.
  void CorruptSeed(uint64_t seed) {
    MutexLock lock(&mutex_);
    corrupt_seed_ = seed;
  }
  void CorruptScores() {
    MutexLock lock(&mutex_);
    corrupt_scores_ = true;
  }
  // Before the `steps`-th Execute from now on, 0 being the next, all `blocks` of the pool are
  // forgotten, whoever owns them.
  void ForgetAllAfter(int steps, int32_t blocks) {
    MutexLock lock(&mutex_);
    steps_until_forgotten_ = steps;
    forgotten_blocks_ = blocks;
  }
  // The next Execute waits until Release, once Hold was called.
  void Hold() {
    MutexLock lock(&mutex_);
    held_ = true;
  }
  void Release() {
    MutexLock lock(&mutex_);
    held_ = false;
    changed_.NotifyAll();
  }
  // Until the device thread waits in Execute.
  void AwaitHeld() {
    MutexLock lock(&mutex_);
    while (!waiting_) changed_.Wait(&mutex_);
  }

  std::string Describe() const override { return inner_->Describe(); }
  int Threads() const override { return inner_->Threads(); }
  absl::StatusOr<std::vector<Weight>> CreateWeights(const WeightSource& source,
                                                    std::span<const FormatId> formats) override {
    return inner_->CreateWeights(source, formats);
  }
  absl::StatusOr<Vector> CreateVector(std::span<const float> values) override {
    return inner_->CreateVector(values);
  }
  absl::Status CreateWorkspace(const WorkspacePlan& plan) override {
    return inner_->CreateWorkspace(plan);
  }
  BackendMemory Memory() const override { return inner_->Memory(); }
  bool HasKvType(KvType type) const override { return inner_->HasKvType(type); }
  void Forget(std::span<const int32_t> blocks) override { inner_->Forget(blocks); }
  void Execute(const StepKey& key, const Batch& batch, absl::FunctionRef<void()> forward) override {
    {
      MutexLock lock(&mutex_);
      waiting_ = held_;
      if (held_) changed_.NotifyAll();
      while (held_) changed_.Wait(&mutex_);
      waiting_ = false;
      if (steps_until_forgotten_-- == 0) {
        for (int32_t block = 0; block < forgotten_blocks_; ++block) inner_->Forget({&block, 1});
      }
    }
    inner_->Execute(key, batch, forward);
  }
  absl::Status Synchronize() override {
    if (absl::Status status = inner_->Synchronize(); !status.ok()) return status;
    MutexLock lock(&mutex_);
    if (!steps_until_failure_.has_value()) return absl::OkStatus();
    if (*steps_until_failure_ == 0) return absl::InternalError("the test broke the device");
    --*steps_until_failure_;
    return absl::OkStatus();
  }
  void Embed(const EmbedArgs& args) override { inner_->Embed(args); }
  void AttentionIn(const AttentionInArgs& args) override { inner_->AttentionIn(args); }
  void Attention(const AttentionArgs& args) override { inner_->Attention(args); }
  void AttentionOut(const ResidualArgs& args) override { inner_->AttentionOut(args); }
  void MlpIn(const MlpInArgs& args) override { inner_->MlpIn(args); }
  void MlpOut(const ResidualArgs& args) override { inner_->MlpOut(args); }
  void LmHead(const LmHeadArgs& args) override { inner_->LmHead(args); }
  // The CPU's results are there when its calls return, so that they can be replaced here.
  void Sample(std::span<const SampleRow> rows, std::span<SampleResult> results) override {
    inner_->Sample(rows, results);
    MutexLock lock(&mutex_);
    for (size_t i = 0; i < rows.size(); ++i) {
      if (rows[i].seed == corrupt_seed_) results[i] = {.status = RowStatus::kNan};
    }
  }
  void Score(const ScoreArgs& args) override {
    inner_->Score(args);
    MutexLock lock(&mutex_);
    if (!corrupt_scores_) return;
    ScoreResult& result = args.results[0];
    (args.reference_buffer < 0 ? result.status : result.reference_status) = RowStatus::kInf;
  }
  absl::Status CopyActivation(Activation which, std::span<float> out) override {
    return inner_->CopyActivation(which, out);
  }

 private:
  const std::unique_ptr<Backend> inner_;
  Mutex mutex_;
  CondVar changed_;
  std::optional<int> steps_until_failure_ ABSL_GUARDED_BY(mutex_);
  std::optional<uint64_t> corrupt_seed_ ABSL_GUARDED_BY(mutex_);
  bool corrupt_scores_ ABSL_GUARDED_BY(mutex_) = false;
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  bool waiting_ ABSL_GUARDED_BY(mutex_) = false;
  int steps_until_forgotten_ ABSL_GUARDED_BY(mutex_) = -1;
  int32_t forgotten_blocks_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace vernier::testing
