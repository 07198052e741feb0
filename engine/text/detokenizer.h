// Turns one stream's token ids into whole UTF-8 text, and finds its stop strings.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/text/tokenizer.h"

namespace vernier {

// One stream's state; used by one thread at a time. Text that may still become a stop string, and
// bytes of an unfinished character, are held back; bytes that can never become UTF-8 are given out
// as U+FFFD.
class Detokenizer {
 public:
  // `tokenizer` must outlive this. `stops`: not empty strings.
  Detokenizer(const Tokenizer* tokenizer, std::vector<std::string> stops, bool include_stop,
              bool special_as_text);

  // The text that is certain after `id`. Once a stop was found: always empty.
  std::string Push(int32_t id);
  // What was held back, at the end of a stream without a stop.
  std::string Flush();
  // Index into `stops` of the one found, -1: none yet.
  int stop() const { return stop_; }

 private:
  std::string Release(bool at_end);

  const Tokenizer* const tokenizer_;
  const std::vector<std::string> stops_;
  const bool include_stop_;
  const bool special_as_text_;
  std::string bytes_;  // of an unfinished character
  std::string held_;   // whole characters that may begin a stop string
  int stop_ = -1;
};

}  // namespace vernier
