// Rows of short values under their headings, aligned by display width; and numbers with their
// units.
//
// Pure, any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace vernier::cli {

struct Table {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;  // each as long as the header
  size_t left_aligned = 1;                     // so many columns, from the left
  size_t texts_from = SIZE_MAX;  // columns from here on are left-aligned too; numbers between
};

// Cells are neutralized; lines end with '\n' and hold no trailing blanks.
std::string RenderTable(const Table& table);

// The same in no line wider than `columns`, where a name of kLeastNameColumns and one value find
// room: the columns that are left-aligned from the left are shortened, then the others stand in
// several tables, one under another.
std::string RenderTableWithin(Table table, int columns);

inline constexpr int kLeastNameColumns = 8;

inline constexpr char kNotMeasured[] = "-";

std::string FormatBytes(uint64_t bytes);             // "512 B", "1.5 KiB", "128.0 MiB"
std::string FormatSeconds(double seconds);           // "850 µs", "12.3 ms", "1.23 s"
std::string FormatNumber(double value, int digits);  // kNotMeasured for NaN
std::string FormatPercent(double share);             // 0.934 is "93.4 %"
std::string FormatCount(uint64_t count);             // "134515008"

}  // namespace vernier::cli
