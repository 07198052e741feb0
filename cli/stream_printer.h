// Prints the text of one stream as it comes; of several samples one after the other.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "vernier/v1/inference.pb.h"

namespace vernier::cli {

// One thread.
class StreamPrinter {
 public:
  struct Style {
    bool neutralize = false;  // for a terminal
    bool ids = false;         // token ids, for a model without a tokenizer
  };
  StreamPrinter(std::ostream* out, int samples, Style style);

  void Add(const v1::Delta& delta);
  void Finish(const v1::Finish& finish);

 private:
  struct Sample {
    std::string waiting;  // while another one is printed
    bool any = false;     // ids were added
    bool finished = false;
  };
  // Prints all that its turn has come for.
  void Advance();

  std::ostream* const out_;
  const Style style_;
  std::vector<Sample> samples_;
  size_t turn_ = 0;
  bool titled_ = false;  // the sample whose turn it is
};

}  // namespace vernier::cli
