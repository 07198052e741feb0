// Draws tokens from rows of logits, and says what rows say of given tokens, on the device: the
// meaning of SampleRow and ScoreRow (sample_row.h), one block of threads a row.
//
// Arithmetic is that of the host's functions without contraction, so that equal logits give equal
// tokens. What may differ are the last bits of sums over the vocabulary, which are added in
// another, fixed order; a nucleus is cut by masses rounded down to 2^-44 of the largest. All
// pointers are device memory; the launch's error is returned. Any thread may call.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace vernier::cuda {

inline constexpr int kMostTop = 20;  // kMaxTopLogprobs of backend.h

// Values of RowStatus.
enum : int32_t { kRowOk = 0, kRowNan = 1, kRowInf = 2 };

struct DeviceCount {
  int32_t id, prompt, generated;
};
struct DeviceBias {
  int32_t id;
  float bias;
};
// A run of one of the lists of SampleParameters.
struct ListRun {
  int32_t first = 0, count = 0;
};

struct DeviceSampleRow {
  uint64_t seed = 0, position = 0;
  int32_t logit_index = 0;
  int32_t top_k = 0;
  float temperature = 0, top_p = 1, min_p = 0;
  float frequency_penalty = 0, presence_penalty = 0, repetition_penalty = 1;
  int32_t top_logprobs = -1;
  ListRun counts, biases, banned;
};

struct DeviceTop {
  int32_t id;
  float logprob;
};

struct DeviceSample {
  int32_t status, id;
  float logprob;
  int32_t top_count;
};

struct SampleParameters {
  int64_t vocab = 0;
  const float* logits = nullptr;  // [.., vocab]
  float* adjusted = nullptr;      // [rows, vocab]; scratch
  const DeviceSampleRow* rows = nullptr;
  const DeviceCount* counts = nullptr;
  const DeviceBias* biases = nullptr;
  const int32_t* banned = nullptr;
  DeviceSample* samples = nullptr;  // [rows]
  DeviceTop* tops = nullptr;        // [rows][kMostTop]
};
cudaError_t LaunchSample(const SampleParameters& p, int rows, cudaStream_t stream);

struct DeviceScoreRow {
  int32_t logit_index, target, top_logprobs;
};

struct DeviceScore {
  int32_t status;
  float logprob;
  int32_t top1;
  float margin;
  int32_t reference_status;
  float reference_logprob;
  int32_t reference_top1;
  float reference_margin;
  float kl_from_reference, kl_to_reference;
  float top_k_overlap;
  int32_t top_count;
  DeviceTop top[kMostTop];
};

struct ScoreParameters {
  int64_t vocab = 0;
  int overlap_k = 0;                 // at most kMostTop
  const float* logits = nullptr;     // [.., vocab]
  const float* reference = nullptr;  // the same rows; null: none
  const DeviceScoreRow* rows = nullptr;
  DeviceScore* scores = nullptr;  // [rows]
};
cudaError_t LaunchScore(const ScoreParameters& p, int rows, cudaStream_t stream);

}  // namespace vernier::cuda
