#include "cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "absl/strings/numbers.h"

namespace vernier::cli {
namespace {

constexpr int kWidthOfFiles = 100;
constexpr int kMostColumns = 1000;

int Width() {
  winsize size{};
  int columns = kWidthOfFiles;
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    columns = size.ws_col;
  } else if (const char* text = std::getenv("COLUMNS"); text != nullptr) {
    int given = 0;
    if (absl::SimpleAtoi(text, &given) && given > 0) columns = given;
  }
  return std::min(columns, kMostColumns);
}

bool ColourIsWelcome() {
  const char* no_color = std::getenv("NO_COLOR");  // no-color.org: present and not empty
  const char* term = std::getenv("TERM");
  return (no_color == nullptr || *no_color == '\0') && term != nullptr &&
         std::string(term) != "dumb";
}

}  // namespace

Terminal ProcessTerminal() {
  Terminal terminal;
  terminal.in = &std::cin;
  terminal.out = &std::cout;
  terminal.err = &std::cerr;
  terminal.in_is_terminal = isatty(STDIN_FILENO) == 1;
  terminal.out_is_terminal = isatty(STDOUT_FILENO) == 1;
  terminal.err_is_terminal = isatty(STDERR_FILENO) == 1;
  terminal.canvas.columns = Width();
  terminal.canvas.colour = terminal.out_is_terminal && ColourIsWelcome();
  return terminal;
}

}  // namespace vernier::cli
