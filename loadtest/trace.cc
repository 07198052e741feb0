#include "loadtest/trace.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"

namespace vernier::loadtest {
namespace {

constexpr int64_t kMaxTokens = 100'000'000;  // of a prompt or an answer
constexpr int64_t kMaxFileBytes = 1 << 30;
constexpr double kMaxSeconds = 1e10;

// What is wrong with a line; nothing when it became `row`. `at` in any origin.
using Wrong = std::optional<std::string>;

Wrong SetTokens(int64_t prompt, int64_t output, TraceRow* row) {
  for (const int64_t tokens : {prompt, output}) {
    if (tokens < 0 || tokens > kMaxTokens) {
      return absl::StrCat(tokens, " tokens, must be in [0, ", kMaxTokens, "]");
    }
  }
  row->prompt_tokens = std::max<int64_t>(prompt, 1);
  row->output_tokens = std::max<int64_t>(output, 1);
  return std::nullopt;
}

Wrong SetTokens(absl::string_view prompt, absl::string_view output, TraceRow* row) {
  int64_t tokens[2];
  for (const auto& [text, number] :
       {std::pair(prompt, &tokens[0]), std::pair(output, &tokens[1])}) {
    if (!absl::SimpleAtoi(text, number)) return absl::StrCat("\"", text, "\" is no whole number");
  }
  return SetTokens(tokens[0], tokens[1], row);
}

Wrong ParseAzure(absl::string_view line, TraceRow* row) {
  const std::vector<absl::string_view> cells = absl::StrSplit(line, ',');
  if (cells.size() != 3) return absl::StrCat(cells.size(), " cells, must be 3");
  absl::Time time;
  std::string error;
  if (!absl::ParseTime("%Y-%m-%d %H:%M:%E*S", cells[0], &time, &error)) {
    return absl::StrCat("\"", cells[0], "\" is no time: ", error);
  }
  row->at = absl::ToDoubleSeconds(time - absl::UnixEpoch());
  return SetTokens(cells[1], cells[2], row);
}

Wrong ParseVidur(absl::string_view line, TraceRow* row) {
  const std::vector<absl::string_view> cells = absl::StrSplit(line, ',');
  if (cells.size() < 2) return "1 cell, must be 2 or more";
  return SetTokens(cells[0], cells[1], row);
}

Wrong ParseMooncake(absl::string_view line, TraceRow* row) {
  const auto json = nlohmann::json::parse(line.begin(), line.end(), nullptr, false);
  if (!json.is_object()) return "not a JSON object";
  const auto number = [&](const char* key) -> std::optional<double> {
    const auto found = json.find(key);
    if (found == json.end() || !found->is_number()) return std::nullopt;
    return found->get<double>();
  };
  const auto at = number("timestamp"), prompt = number("input_length"),
             output = number("output_length");
  if (!at.has_value() || !prompt.has_value() || !output.has_value()) {
    return "needs the numbers timestamp, input_length and output_length";
  }
  if (!(*at >= 0 && *at / 1e3 <= kMaxSeconds)) return absl::StrCat("timestamp ", *at);
  const auto limited = [](double tokens) {
    return tokens >= 0 && tokens <= kMaxTokens ? static_cast<int64_t>(tokens) : int64_t{-1};
  };
  row->at = *at / 1e3;
  if (const auto ids = json.find("hash_ids"); ids != json.end()) {
    if (!ids->is_array()) return "hash_ids is no array";
    for (const auto& id : *ids) {
      if (!id.is_number_integer()) return "hash_ids holds what is no whole number";
      row->blocks.push_back(id.get<int64_t>());
    }
  }
  return SetTokens(limited(*prompt), limited(*output), row);
}

struct Format {
  const char* begins_with;  // the first line
  bool header;              // which then is no row
  bool has_times;
  Wrong (*parse)(absl::string_view, TraceRow*);
};
constexpr Format kFormats[] = {
    {"TIMESTAMP,ContextTokens,GeneratedTokens", true, true, ParseAzure},
    {"num_prefill_tokens,num_decode_tokens", true, false, ParseVidur},
    {"{", false, true, ParseMooncake},
};

const Format* FormatOfLine(absl::string_view line) {
  for (const Format& format : kFormats) {
    if (absl::StartsWith(line, format.begins_with)) return &format;
  }
  return nullptr;
}

absl::Status AtLine(const std::string& name, size_t line, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(name, ":", line, ": ", what));
}

}  // namespace

double Trace::MeanRate() const {
  return Seconds() > 0 ? static_cast<double>(rows.size()) / Seconds() : 0;
}

absl::StatusOr<Trace> ParseTrace(absl::string_view text, const std::string& name) {
  Trace trace;
  const Format* format = nullptr;
  size_t number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripTrailingAsciiWhitespace(line);
    if (line.empty()) continue;
    if (format == nullptr) {
      format = FormatOfLine(line);
      if (format == nullptr) return AtLine(name, number, "the first line of no trace known here");
      if (format->header) continue;
    }
    TraceRow row;
    if (const Wrong wrong = format->parse(line, &row); wrong.has_value()) {
      return AtLine(name, number, *wrong);
    }
    trace.rows.push_back(std::move(row));
  }
  if (trace.rows.empty()) return absl::InvalidArgumentError(absl::StrCat(name, ": no request"));
  trace.has_times = format->has_times;
  std::stable_sort(trace.rows.begin(), trace.rows.end(),
                   [](const TraceRow& a, const TraceRow& b) { return a.at < b.at; });
  const double origin = trace.rows.front().at;
  for (TraceRow& row : trace.rows) row.at -= origin;
  return trace;
}

absl::StatusOr<Trace> ReadTrace(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  const int64_t bytes = file.tellg();
  if (bytes < 0 || bytes > kMaxFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", bytes, " bytes, limit ", kMaxFileBytes));
  }
  std::string text(static_cast<size_t>(bytes), '\0');
  file.seekg(0);
  if (!file.read(text.data(), bytes))
    return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  return ParseTrace(text, path);
}

}  // namespace vernier::loadtest
