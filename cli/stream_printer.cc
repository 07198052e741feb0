#include "cli/stream_printer.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "cli/display_text.h"

namespace vernier::cli {

StreamPrinter::StreamPrinter(std::ostream* out, int samples, Style style)
    : out_(out), style_(style), samples_(static_cast<size_t>(std::max(samples, 1))) {}

void StreamPrinter::Add(const v1::Delta& delta) {
  if (delta.index() >= samples_.size()) return;
  Sample& sample = samples_[delta.index()];
  if (style_.ids) {
    for (const uint32_t id : delta.token_ids()) {
      absl::StrAppend(&sample.waiting, sample.any ? " " : "", id);
      sample.any = true;
    }
  } else {
    sample.waiting += style_.neutralize ? Neutralize(delta.text()) : delta.text();
  }
  Advance();
}

void StreamPrinter::Finish(const v1::Finish& finish) {
  if (finish.index() >= samples_.size()) return;
  samples_[finish.index()].finished = true;
  Advance();
}

void StreamPrinter::Advance() {
  while (turn_ < samples_.size()) {
    Sample& sample = samples_[turn_];
    if (samples_.size() > 1 && !titled_) {
      *out_ << (turn_ > 0 ? "\n" : "") << "--- sample " << turn_ << "\n";
      titled_ = true;
    }
    *out_ << sample.waiting;
    sample.waiting.clear();
    if (!sample.finished) break;
    *out_ << "\n";
    ++turn_;
    titled_ = false;
  }
  out_->flush();
}

}  // namespace vernier::cli
