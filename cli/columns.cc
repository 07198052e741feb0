#include "cli/columns.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "cli/display_text.h"

namespace vernier::cli {
namespace {

constexpr int kLeastWidth = 20;  // below this, side by side is illegible
constexpr char kBetween[] = " │ ";
constexpr int kBetweenWidth = 3;
constexpr int kTabWidth = 4;

constexpr char kBold[] = "\x1b[1m";
constexpr char kParted[] = "\x1b[33m";  // yellow
constexpr char kPlain[] = "\x1b[0m";

struct Cell {
  std::string bytes;
  int width = 0;
  bool parted = false;
};
using Line = std::vector<Cell>;

int WidthOf(const Line& line) {
  int width = 0;
  for (const Cell& cell : line) width += cell.width;
  return width;
}

bool IsBlank(const Cell& cell) { return cell.bytes == " "; }

void AppendCells(const std::string& text, bool parted, Line* cells) {
  const std::string safe = Neutralize(text);
  for (const Glyph& glyph : Glyphs(safe)) {
    if (glyph.bytes == "\t") {
      for (int i = 0; i < kTabWidth; ++i) cells->push_back({" ", 1, parted});
    } else {
      cells->push_back({std::string(glyph.bytes), glyph.width, parted});
    }
  }
}

Line CellsOf(const Column& column) {
  Line cells;
  const size_t parts_at =
      std::min(column.parts_at.value_or(column.text.size()), column.text.size());
  AppendCells(column.text.substr(0, parts_at), false, &cells);
  if (column.parts_at) cells.push_back({kPartingMark, 1, true});
  AppendCells(column.text.substr(parts_at), true, &cells);
  return cells;
}

// Breaks `line`, which is too wide, after its last blank, or before the last cell; returns the
// rest.
Line BreakLine(Line* line) {
  const auto last = line->end() - 1;
  auto cut = last;
  for (auto it = line->begin(); it != last; ++it) {
    if (IsBlank(*it)) cut = it + 1;
  }
  if (IsBlank(*last)) cut = last + 1;  // a blank may hang over the edge
  Line rest(cut, line->end());
  line->erase(cut, line->end());
  return rest;
}

void TrimBlanks(Line* line) {
  while (!line->empty() && IsBlank(line->back())) line->pop_back();
}

std::vector<Line> Wrap(const Line& cells, int width) {
  std::vector<Line> lines(1);
  int used = 0;  // of the last line
  for (const Cell& cell : cells) {
    if (cell.bytes == "\n") {
      lines.emplace_back();
      used = 0;
      continue;
    }
    lines.back().push_back(cell);
    used += cell.width;
    if (used > width && lines.back().size() > 1) {
      Line rest = BreakLine(&lines.back());
      used = WidthOf(rest);
      lines.push_back(std::move(rest));
    }
  }
  for (Line& line : lines) TrimBlanks(&line);
  while (lines.size() > 1 && lines.back().empty()) lines.pop_back();
  return lines;
}

std::string LineText(const Line& line, bool colour) {
  std::string out;
  bool parted = false;
  for (const Cell& cell : line) {
    if (colour && cell.parted != parted) out += cell.parted ? kParted : kPlain;
    parted = cell.parted;
    out += cell.bytes;
  }
  if (colour && parted) out += kPlain;
  return out;
}

std::string TitleText(const std::string& title, int width, bool colour) {
  Line line;
  AppendCells(title, false, &line);
  while (WidthOf(line) > width) line.pop_back();
  const std::string text = LineText(line, false);
  return colour ? absl::StrCat(kBold, text, kPlain) : text;
}

// A cell that nothing follows needs no padding.
struct Block {
  std::vector<std::string> texts;
  std::vector<int> widths;
};

std::string JoinRow(const Block& row, int width) {
  std::string out;
  int pending = 0;
  for (size_t i = 0; i < row.texts.size(); ++i) {
    if (i > 0) {
      out += std::string(pending, ' ') + kBetween;
    }
    out += row.texts[i];
    pending = width - row.widths[i];
  }
  out.erase(out.find_last_not_of(' ') + 1);
  return out + "\n";
}

std::string Repeat(const char* text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

std::string Stacked(std::span<const Column> columns, const Canvas& canvas) {
  const int width = std::max(canvas.columns, 1);
  std::string out;
  for (const Column& column : columns) {
    if (!out.empty()) out += "\n";
    out += TitleText(column.title, width, canvas.colour) + "\n";
    for (const Line& line : Wrap(CellsOf(column), width)) {
      out += LineText(line, canvas.colour) + "\n";
    }
  }
  return out;
}

}  // namespace

std::string RenderColumns(std::span<const Column> columns, const Canvas& canvas) {
  const int count = static_cast<int>(columns.size());
  if (count == 0) return "";
  const int width = (canvas.columns - (count - 1) * kBetweenWidth) / count;
  if (width < kLeastWidth || count == 1) return Stacked(columns, canvas);

  Block titles;
  std::vector<std::vector<Line>> wrapped;
  size_t height = 0;
  for (const Column& column : columns) {
    titles.texts.push_back(TitleText(column.title, width, canvas.colour));
    titles.widths.push_back(std::min(DisplayWidth(Neutralize(column.title)), width));
    wrapped.push_back(Wrap(CellsOf(column), width));
    height = std::max(height, wrapped.back().size());
  }
  std::string out = JoinRow(titles, width);
  for (int i = 0; i < count; ++i) out += (i > 0 ? "─┼─" : "") + Repeat("─", width);
  out += "\n";
  for (size_t row = 0; row < height; ++row) {
    Block block;
    for (const std::vector<Line>& lines : wrapped) {
      const Line line = row < lines.size() ? lines[row] : Line();
      block.texts.push_back(LineText(line, canvas.colour));
      block.widths.push_back(WidthOf(line));
    }
    out += JoinRow(block, width);
  }
  return out;
}

size_t CommonStart(const std::string& text, const std::string& reference) {
  size_t common = 0;
  const size_t shorter = std::min(text.size(), reference.size());
  while (common < shorter && text[common] == reference[common]) ++common;
  // Back to where a character of `text` begins.
  size_t start = 0;
  for (const Glyph& glyph : Glyphs(text)) {
    if (start + glyph.bytes.size() > common) break;
    start += glyph.bytes.size();
  }
  const auto letter = [&](const std::string& in, size_t at) {
    return at < in.size() && absl::ascii_isalnum(static_cast<unsigned char>(in[at]));
  };
  const bool inside_word = letter(text, start) || letter(reference, start);
  while (inside_word && start > 0 && letter(text, start - 1)) --start;
  return start;
}

}  // namespace vernier::cli
