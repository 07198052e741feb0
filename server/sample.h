// One sample of an answer while it grows: tokens in, text out, and how it ended.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "engine/text/detokenizer.h"
#include "server/convert.h"
#include "vernier/v1/inference.pb.h"

namespace vernier {

struct SampleOptions {
  const Tokenizer* tokenizer = nullptr;  // null: ids alone
  std::vector<std::string> stops;
  bool include_stop = false;
  bool special_as_text = false;
  int logprobs = -1;  // as the client asked: -1 none
  uint64_t seed = 0;
  uint32_t index = 0;
};

// Of the first sample of a request.
SampleOptions SampleOptionsOf(const GenerateSpec& spec, const Model& model);

// Used by one thread at a time.
class Sample {
 public:
  explicit Sample(const SampleOptions& options);

  // Takes the next token. True when it completed a stop string: the request should end, and tokens
  // after it are dropped here.
  bool Push(int32_t id, bool has_logprob, float logprob, const TopLogprobs* top);
  void Finish(const FinishEvent& event);

  bool finished() const { return finished_; }
  // OK, or why the sample failed: the status a call ends with.
  const absl::Status& status() const { return status_; }
  FinishReason reason() const { return reason_; }
  const FinishEvent& event() const { return event_; }
  const std::vector<int32_t>& ids() const { return ids_; }
  uint64_t seed() const { return options_.seed; }
  // Best minus second best log-probability where each token was drawn; empty when fewer than two
  // alternatives came.
  const std::vector<float>& margins() const { return margins_; }

  // What came since the last take; at most about `max_bytes`.
  bool HasDelta() const { return taken_ < ids_.size() || text_taken_ < text_.size(); }
  v1::Delta TakeDelta(size_t max_bytes);
  // The whole, whatever was taken before. REQUIRES: finished.
  v1::Finish FinishMessage() const;
  v1::Completion CompletionMessage() const;

 private:
  SampleOptions options_;
  std::optional<Detokenizer> detokenizer_;
  std::vector<int32_t> ids_;
  std::vector<v1::TokenDetail> details_;  // one an id where asked
  std::vector<float> margins_;
  std::string text_;
  size_t taken_ = 0;       // ids given out in deltas
  size_t text_taken_ = 0;  // bytes of text given out
  bool finished_ = false;
  FinishReason reason_ = FinishReason::kNone;
  FinishEvent event_;
  absl::Status status_;
};

// The status that a request's end means for its call: OK for stop, eos, length and time limit.
absl::Status StatusOfFinish(const FinishEvent& event, FinishReason reason);

}  // namespace vernier
