// The difference of two reports. They may come from anywhere: nothing in them is trusted.
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "loadtest/report/chart.h"
#include "loadtest/report/format.h"
#include "loadtest/report/report.h"

namespace vernier::loadtest {
namespace {

using nlohmann::json;

struct ReadRun {
  std::string label;
  std::vector<double> figures;  // as SummaryFields
};

absl::Status Wrong(absl::string_view which, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(which, ": ", what));
}

absl::StatusOr<ReadRun> ReadOne(const json& run, const std::string& where) {
  if (!run.is_object()) return Wrong(where, "not an object");
  const auto label = run.find("label"), figures = run.find("figures");
  if (label == run.end() || !label->is_string()) return Wrong(where, "no label");
  if (figures == run.end() || !figures->is_object()) return Wrong(where, "no figures");
  ReadRun out{label->get<std::string>(), {}};
  for (const SummaryField& field : SummaryFields()) {
    const auto figure = figures->find(field.name);
    if (figure == figures->end() || !figure->is_number()) {
      return Wrong(where, absl::StrCat("no number ", field.name));
    }
    out.figures.push_back(figure->get<double>());
  }
  return out;
}

absl::StatusOr<std::vector<ReadRun>> ReadRuns(absl::string_view text, const std::string& which) {
  const json report = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (report.is_discarded() || !report.is_object()) return Wrong(which, "not a JSON object");
  const auto format = report.find("format"), runs = report.find("runs");
  if (format == report.end() || *format != kReportFormat) {
    return Wrong(which, absl::StrCat("not a report: its format is not \"", kReportFormat, "\""));
  }
  if (runs == report.end() || !runs->is_array() || runs->empty()) return Wrong(which, "no runs");
  std::vector<ReadRun> out;
  for (const json& run : *runs) {
    auto one = ReadOne(run, absl::StrCat(which, ", run ", out.size() + 1));
    if (!one.ok()) return one.status();
    out.push_back(*std::move(one));
  }
  return out;
}

std::string Change(double before, double after, Better better) {
  if (before == after) return "same";
  if (before == 0) return "new";
  const double change = (after - before) / std::abs(before);
  const std::string percent = absl::StrFormat("%+.1f %%", change * 100);
  if (better == Better::kNeither) return percent;
  return absl::StrCat(percent, (change > 0) == (better == Better::kHigher) ? " better" : " worse");
}

}  // namespace

absl::StatusOr<std::string> CompareReports(absl::string_view before, absl::string_view after) {
  auto first = ReadRuns(before, "the first report");
  if (!first.ok()) return first.status();
  auto second = ReadRuns(after, "the second report");
  if (!second.ok()) return second.status();
  if (first->size() != second->size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the first report has ", first->size(), " runs, the second ", second->size()));
  }
  std::string out;
  for (size_t i = 0; i < first->size(); ++i) {
    const ReadRun& a = (*first)[i];
    const ReadRun& b = (*second)[i];
    if (a.label != b.label) {
      return absl::InvalidArgumentError(absl::StrCat("run ", i + 1, " is \"", a.label,
                                                     "\" in the first report and \"", b.label,
                                                     "\" in the second"));
    }
    absl::StrAppendFormat(&out, "%s\n", a.label);
    for (size_t f = 0; f < SummaryFields().size(); ++f) {
      const SummaryField& field = SummaryFields()[f];
      if (a.figures[f] == 0 && b.figures[f] == 0) continue;
      absl::StrAppendFormat(&out, "  %-28s %12s %12s  %s\n", field.name, ShortNumber(a.figures[f]),
                            ShortNumber(b.figures[f]),
                            Change(a.figures[f], b.figures[f], field.better));
    }
  }
  return out;
}

}  // namespace vernier::loadtest
