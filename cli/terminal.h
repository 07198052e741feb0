// Where a command reads and writes, and what that place can show.
#pragma once

#include <istream>
#include <ostream>

#include "cli/columns.h"

namespace vernier::cli {

// Not owned streams. Used by one thread at a time.
struct Terminal {
  std::istream* in = nullptr;
  std::ostream* out = nullptr;
  std::ostream* err = nullptr;
  bool in_is_terminal = false;
  bool out_is_terminal = false;  // then what a model wrote is neutralized
  bool err_is_terminal = false;
  Canvas canvas;  // of `out`: colour only on a terminal, and not under NO_COLOR
};

// The process's own; width from the terminal, else $COLUMNS, else 100.
Terminal ProcessTerminal();

}  // namespace vernier::cli
