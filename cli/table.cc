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
  std::vector<int> widths(table.header.size(), 0);
  const auto measure = [&](const std::vector<std::string>& row) {
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], DisplayWidth(CellText(row[i])));
    }
  };
  measure(table.header);
  for (const auto& row : table.rows) measure(row);
  std::string out = RowText(table.header, widths, table);
  for (const auto& row : table.rows) out += RowText(row, widths, table);
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
