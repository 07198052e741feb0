// Texts side by side, as many columns as there are texts, wrapped to the terminal's width.
//
// Pure, any thread.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>

namespace vernier::cli {

struct Column {
  std::string title;
  std::string text;  // UTF-8; neutralized here
  // Bytes into `text`: what follows is marked with kPartingMark and, on a terminal, in colour.
  std::optional<size_t> parts_at;
};

struct Canvas {
  int columns = 80;     // width in characters
  bool colour = false;  // ANSI escape sequences
};

inline constexpr char kPartingMark[] = "▸";

// Lines end with '\n' and hold no trailing blanks. Words are kept whole where they fit; a character
// is never cut. Below a legible width the texts stand one under another.
std::string RenderColumns(std::span<const Column> columns, const Canvas& canvas);

// Where `text` leaves `reference`: the longest common start that cuts neither a character nor a
// word of ASCII letters and digits, since a reader looks for the word that differs.
size_t CommonStart(const std::string& text, const std::string& reference);

}  // namespace vernier::cli
