#include "kernels/cuda/logit_calls.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/cuda/device_buffer.h"

namespace vernier::cuda {
namespace {

// What the device writes is what backend.h says.
static_assert(sizeof(TokenCount) == sizeof(DeviceCount) && sizeof(LogitBias) == sizeof(DeviceBias));
static_assert(sizeof(TokenLogprob) == sizeof(DeviceTop) && kMostTop == kMaxTopLogprobs);
static_assert(static_cast<int>(RowStatus::kNan) == kRowNan &&
              static_cast<int>(RowStatus::kInf) == kRowInf);

constexpr int64_t kAlignment = 16;

// Where the arrays of a call to Sample lie, in bytes from the first.
struct SampleLayout {
  int64_t rows = 0, counts = 0, biases = 0, banned = 0, bytes = 0;
};

SampleLayout LayoutOf(std::span<const SampleRow> rows) {
  size_t counts = 0, biases = 0, banned = 0;
  for (const SampleRow& row : rows) {
    counts += row.counts.size(), biases += row.biases.size(), banned += row.banned.size();
  }
  int64_t used = 0;
  const auto place = [&](size_t bytes) {
    const int64_t at = used;
    used = (used + static_cast<int64_t>(bytes) + kAlignment - 1) / kAlignment * kAlignment;
    return at;
  };
  SampleLayout layout;
  layout.rows = place(rows.size() * sizeof(DeviceSampleRow));
  layout.counts = place(counts * sizeof(DeviceCount));
  layout.biases = place(biases * sizeof(DeviceBias));
  layout.banned = place(banned * sizeof(int32_t));
  layout.bytes = used;
  return layout;
}

// Appends a row's list to all lists.
template <class From, class To>
ListRun Append(std::span<const From> list, To* all, int32_t* used) {
  const ListRun run{*used, static_cast<int32_t>(list.size())};
  if (!list.empty()) std::memcpy(static_cast<void*>(all + *used), list.data(), list.size_bytes());
  *used += run.count;
  return run;
}

void Pack(std::span<const SampleRow> rows, const SampleLayout& layout, uint8_t* to) {
  auto* out = reinterpret_cast<DeviceSampleRow*>(to + layout.rows);
  int32_t counts = 0, biases = 0, banned = 0;
  for (const SampleRow& row : rows) {
    *out++ = {
        .seed = row.seed,
        .position = row.position,
        .logit_index = row.logit_index,
        .top_k = row.top_k,
        .temperature = row.temperature,
        .top_p = row.top_p,
        .min_p = row.min_p,
        .frequency_penalty = row.frequency_penalty,
        .presence_penalty = row.presence_penalty,
        .repetition_penalty = row.repetition_penalty,
        .top_logprobs = std::min(row.top_logprobs, kMaxTopLogprobs),
        .counts = Append(row.counts, reinterpret_cast<DeviceCount*>(to + layout.counts), &counts),
        .biases = Append(row.biases, reinterpret_cast<DeviceBias*>(to + layout.biases), &biases),
        .banned = Append(row.banned, reinterpret_cast<int32_t*>(to + layout.banned), &banned)};
  }
}

TopLogprobs TopOf(const DeviceTop* from, int count) {
  TopLogprobs top;
  top.count = count;
  for (int i = 0; i < count; ++i) top.entries[i] = {from[i].id, from[i].logprob};
  return top;
}

ScoreResult ResultOf(const DeviceScore& score) {
  return {.status = static_cast<RowStatus>(score.status),
          .logprob = score.logprob,
          .top1 = score.top1,
          .margin = score.margin,
          .reference_status = static_cast<RowStatus>(score.reference_status),
          .reference_logprob = score.reference_logprob,
          .reference_top1 = score.reference_top1,
          .reference_margin = score.reference_margin,
          .kl_from_reference = score.kl_from_reference,
          .kl_to_reference = score.kl_to_reference,
          .top_k_overlap = score.top_k_overlap,
          .top = TopOf(score.top, score.top_count)};
}

}  // namespace

absl::StatusOr<uint8_t*> LogitCalls::Take(Staging* staging, int64_t bytes) {
  uint8_t* taken = staging->Take(bytes);
  if (taken != nullptr) return taken;
  if (cudaError_t error = cudaStreamSynchronize(stream_); error != cudaSuccess) {
    return StatusOf(error, "waiting for room");
  }
  Deliver();
  workspace_.staging.Reset();
  workspace_.returned.Reset();
  taken = staging->Take(bytes);
  if (taken != nullptr) return taken;
  return absl::ResourceExhaustedError(
      absl::StrCat("a call on logits has ", bytes, " bytes, room is for ", staging->bytes()));
}

absl::StatusOr<const uint8_t*> LogitCalls::CopyBack(const void* from, int64_t bytes) {
  absl::StatusOr<uint8_t*> to = Take(&workspace_.returned, bytes);
  if (!to.ok()) return to.status();
  const cudaError_t error = cudaMemcpyAsync(*to, from, bytes, cudaMemcpyDeviceToHost, stream_);
  if (error != cudaSuccess) return StatusOf(error, "copying results");
  return *to;
}

absl::Status LogitCalls::Sample(std::span<const SampleRow> rows, std::span<SampleResult> results) {
  VERNIER_CHECK(rows.size() == results.size());
  VERNIER_CHECK(static_cast<int64_t>(rows.size()) <= workspace_.plan.max_logit_rows);
  if (rows.empty()) return absl::OkStatus();
  const SampleLayout layout = LayoutOf(rows);
  if (layout.bytes > workspace_.calls.bytes()) {
    return absl::ResourceExhaustedError(absl::StrCat("the arguments of sampling have ",
                                                     layout.bytes, " bytes, room is for ",
                                                     workspace_.calls.bytes()));
  }
  absl::StatusOr<uint8_t*> host = Take(&workspace_.staging, layout.bytes);
  if (!host.ok()) return host.status();
  Pack(rows, layout, *host);
  auto* const device = workspace_.calls.as<uint8_t>();
  auto* const samples = workspace_.results.as<DeviceSample>();
  auto* const tops = reinterpret_cast<DeviceTop*>(samples + rows.size());
  cudaError_t error = cudaMemcpyAsync(device, *host, layout.bytes, cudaMemcpyHostToDevice, stream_);
  if (error == cudaSuccess) {
    error = LaunchSample({.vocab = workspace_.plan.vocab,
                          .logits = workspace_.logits[0].as<float>(),
                          .adjusted = workspace_.adjusted.as<float>(),
                          .rows = reinterpret_cast<DeviceSampleRow*>(device + layout.rows),
                          .counts = reinterpret_cast<DeviceCount*>(device + layout.counts),
                          .biases = reinterpret_cast<DeviceBias*>(device + layout.biases),
                          .banned = reinterpret_cast<int32_t*>(device + layout.banned),
                          .samples = samples,
                          .tops = tops},
                         static_cast<int>(rows.size()), stream_);
  }
  if (error != cudaSuccess) return StatusOf(error, "Sample");
  const bool wants_tops = std::any_of(rows.begin(), rows.end(),
                                      [](const SampleRow& row) { return row.top_logprobs > 0; });
  const auto count = static_cast<int64_t>(rows.size());
  const int64_t sample_bytes = count * static_cast<int64_t>(sizeof(DeviceSample));
  const int64_t top_bytes = count * kMostTop * static_cast<int64_t>(sizeof(DeviceTop));
  absl::StatusOr<const uint8_t*> from =
      CopyBack(samples, sample_bytes + (wants_tops ? top_bytes : 0));
  if (!from.ok()) return from.status();
  pending_.push_back({.samples = results,
                      .from_samples = reinterpret_cast<const DeviceSample*>(*from),
                      .from_tops = wants_tops
                                       ? reinterpret_cast<const DeviceTop*>(*from + sample_bytes)
                                       : nullptr});
  return absl::OkStatus();
}

absl::Status LogitCalls::Score(const ScoreArgs& args) {
  VERNIER_CHECK(args.rows.size() == args.results.size());
  VERNIER_CHECK(args.buffer >= 0 && args.buffer < kLogitBuffers);
  VERNIER_CHECK(args.reference_buffer < kLogitBuffers);
  VERNIER_CHECK(args.overlap_k <= kMaxTopLogprobs);
  VERNIER_CHECK(static_cast<int64_t>(args.rows.size()) <= workspace_.plan.max_logit_rows);
  if (args.rows.empty()) return absl::OkStatus();
  const auto count = static_cast<int64_t>(args.rows.size());
  const int64_t row_bytes = count * static_cast<int64_t>(sizeof(DeviceScoreRow));
  absl::StatusOr<uint8_t*> host = Take(&workspace_.staging, row_bytes);
  if (!host.ok()) return host.status();
  auto* rows = reinterpret_cast<DeviceScoreRow*>(*host);
  for (const ScoreRow& row : args.rows) {
    VERNIER_CHECK(row.target >= 0 && row.target < workspace_.plan.vocab);
    *rows++ = {row.logit_index, row.target, row.top_logprobs};
  }
  auto* const device = workspace_.calls.as<uint8_t>();
  auto* const scores = workspace_.results.as<DeviceScore>();
  cudaError_t error = cudaMemcpyAsync(device, *host, row_bytes, cudaMemcpyHostToDevice, stream_);
  if (error == cudaSuccess) {
    error = LaunchScore({.vocab = workspace_.plan.vocab,
                         .overlap_k = args.overlap_k,
                         .logits = workspace_.logits[args.buffer].as<float>(),
                         .reference = args.reference_buffer < 0
                                          ? nullptr
                                          : workspace_.logits[args.reference_buffer].as<float>(),
                         .rows = reinterpret_cast<DeviceScoreRow*>(device),
                         .scores = scores},
                        static_cast<int>(count), stream_);
  }
  if (error != cudaSuccess) return StatusOf(error, "Score");
  absl::StatusOr<const uint8_t*> from =
      CopyBack(scores, count * static_cast<int64_t>(sizeof(DeviceScore)));
  if (!from.ok()) return from.status();
  pending_.push_back(
      {.scores = args.results, .from_scores = reinterpret_cast<const DeviceScore*>(*from)});
  return absl::OkStatus();
}

void LogitCalls::Deliver() {
  for (const Pending& pending : pending_) {
    for (size_t i = 0; i < pending.samples.size(); ++i) {
      const DeviceSample& sample = pending.from_samples[i];
      pending.samples[i] = {.status = static_cast<RowStatus>(sample.status),
                            .id = sample.id,
                            .logprob = sample.logprob};
      if (sample.top_count > 0) {
        pending.samples[i].top = TopOf(pending.from_tops + i * kMostTop, sample.top_count);
      }
    }
    for (size_t i = 0; i < pending.scores.size(); ++i) {
      pending.scores[i] = ResultOf(pending.from_scores[i]);
    }
  }
  pending_.clear();
}

}  // namespace vernier::cuda
