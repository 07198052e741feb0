#include "cli/table.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/display_text.h"

namespace vernier::cli {
namespace {

constexpr char kBetween[] = "  ";

// One line a cell: what would leave the line becomes a blank.
std::string CellText(const std::string& value) {
  std::string out = Neutralize(value);
  std::replace(out.begin(), out.end(), '\n', ' ');
  std::replace(out.begin(), out.end(), '\t', ' ');
  return out;
}

constexpr int kBetweenColumns = 2;

std::vector<int> WidthsOf(const Table& table) {
  std::vector<int> widths(table.header.size(), 0);
  const auto measure = [&](const std::vector<std::string>& row) {
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], DisplayWidth(CellText(row[i])));
    }
  };
  measure(table.header);
  for (const auto& row : table.rows) measure(row);
  return widths;
}

// Of columns [0, names) and [begin, end).
Table Columns(const Table& table, size_t begin, size_t end) {
  const auto cut = [&](const std::vector<std::string>& row) {
    std::vector<std::string> out(row.begin(), row.begin() + table.left_aligned);
    out.insert(out.end(), row.begin() + begin, row.begin() + end);
    return out;
  };
  Table out;
  out.left_aligned = table.left_aligned;
  if (table.texts_from < end) {
    out.texts_from = table.left_aligned + std::max(table.texts_from, begin) - begin;
  }
  out.header = cut(table.header);
  for (const auto& row : table.rows) out.rows.push_back(cut(row));
  return out;
}

void ShortenNames(int columns, Table* table) {
  const auto shorten = [&](std::vector<std::string>* row) {
    for (size_t i = 0; i < table->left_aligned; ++i) {
      (*row)[i] = Shorten(CellText((*row)[i]), columns);
    }
  };
  shorten(&table->header);
  for (auto& row : table->rows) shorten(&row);
}

std::string RowText(const std::vector<std::string>& row, const std::vector<int>& widths,
                    const Table& table) {
  std::string out;
  for (size_t i = 0; i < row.size(); ++i) {
    if (i > 0) out += kBetween;
    const std::string cell = CellText(row[i]);
    const std::string padding(widths[i] - DisplayWidth(cell), ' ');
    const bool left = i < table.left_aligned || i >= table.texts_from;
    out += left ? cell + padding : padding + cell;
  }
  out.erase(out.find_last_not_of(' ') + 1);
  return out + "\n";
}

}  // namespace

std::string RenderTable(const Table& table) {
  const std::vector<int> widths = WidthsOf(table);
  std::string out = RowText(table.header, widths, table);
  for (const auto& row : table.rows) out += RowText(row, widths, table);
  return out;
}

std::string RenderTableWithin(Table table, int columns) {
  const size_t names = table.left_aligned;
  std::vector<int> widths = WidthsOf(table);
  const auto width_of = [&](size_t begin, size_t end) {
    int width = 0;
    for (size_t i = begin; i < end; ++i) width += widths[i] + kBetweenColumns;
    return width;
  };
  const int values = width_of(names, widths.size());
  if (names > 0 && width_of(0, names) + values - kBetweenColumns > columns) {
    const int each = static_cast<int>(names);
    // Beside all values where that leaves a third of the line, else beside some of them.
    const int beside_all = (columns - values + kBetweenColumns) / each - kBetweenColumns;
    ShortenNames(std::max({kLeastNameColumns, beside_all, columns / (3 * each)}), &table);
    widths = WidthsOf(table);
  }
  std::string out;
  for (size_t begin = names; begin < widths.size();) {
    size_t end = begin + 1;
    while (end < widths.size() &&
           width_of(0, names) + width_of(begin, end + 1) - kBetweenColumns <= columns)
      ++end;
    absl::StrAppend(&out, out.empty() ? "" : "\n", RenderTable(Columns(table, begin, end)));
    begin = end;
  }
  return out;
}

std::string FormatBytes(uint64_t bytes) {
  constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

std::string FormatSeconds(double seconds) {
  if (std::isnan(seconds)) return kNotMeasured;
  if (seconds < 1e-3) return absl::StrFormat("%.0f µs", seconds * 1e6);
  if (seconds < 1) return absl::StrFormat("%.1f ms", seconds * 1e3);
  return absl::StrFormat("%.2f s", seconds);
}

std::string FormatNumber(double value, int digits) {
  if (std::isnan(value)) return kNotMeasured;
  return absl::StrFormat("%.*f", digits, value);
}

std::string FormatPercent(double share) {
  if (std::isnan(share)) return kNotMeasured;
  return absl::StrFormat("%.1f %%", share * 100);
}

std::string FormatCount(uint64_t count) { return absl::StrCat(count); }

}  // namespace vernier::cli
