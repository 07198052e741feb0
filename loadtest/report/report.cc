#include "loadtest/report/report.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "loadtest/report/chart.h"
#include "loadtest/report/format.h"

namespace vernier::loadtest {
namespace {

using nlohmann::ordered_json;

ordered_json FiguresOf(const Summary& summary) {
  ordered_json out = ordered_json::object();
  for (const SummaryField& field : SummaryFields()) out[field.name] = field.get(summary);
  return out;
}

ordered_json GroupsOf(const std::vector<NamedSummary>& groups) {
  ordered_json out = ordered_json::object();
  for (const NamedSummary& group : groups) out[group.name] = FiguresOf(group.summary);
  return out;
}

ordered_json TimelineOf(const std::vector<TimelinePoint>& timeline) {
  ordered_json out = ordered_json::array();
  for (const TimelinePoint& p : timeline) {
    out.push_back({{"seconds", p.at},
                   {"waiting", p.waiting},
                   {"running", p.running},
                   {"kv_usage_ratio", p.kv_usage},
                   {"resident_bytes", p.resident_bytes},
                   {"open_files", p.open_files},
                   {"threads", p.threads}});
  }
  return out;
}

ordered_json RunOf(const RunReport& run) {
  ordered_json out = {{"label", run.label},
                      {"offered_per_second", run.offered > 0 ? ordered_json(run.offered) : nullptr},
                      {"figures", FiguresOf(run.all)}};
  if (!run.tenants.empty()) {
    out["tenants"] = GroupsOf(run.tenants);
    out["tenant_jain_index"] = TenantJainIndex(run);
  }
  if (!run.variants.empty()) out["variants"] = GroupsOf(run.variants);
  out["timeline"] = TimelineOf(run.timeline);
  return out;
}

// RFC 4180.
std::string CsvCell(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) absl::StrAppend(&out, c == '"' ? "\"\"" : std::string(1, c));
  return out + "\"";
}

std::string CsvLine(const std::string& run, const std::string& group, const Summary& summary) {
  std::string out = absl::StrCat(CsvCell(run), ",", CsvCell(group));
  for (const SummaryField& field : SummaryFields()) absl::StrAppend(&out, ",", field.get(summary));
  return out + "\n";
}

std::string TextLine(const std::string& name, const Summary& s) {
  const auto ms = [](double seconds) { return ShortNumber(seconds * 1e3); };
  return absl::StrFormat("%-28s %7d %7d %7d %6d  %9s %6s  %9s  %8s %8s  %8s %8s  %8s\n", name,
                         s.sent, s.completed, s.refused, s.deadline + s.failed + s.unfinished,
                         ShortNumber(s.Goodput()), ShortNumber(s.Attained() * 100),
                         ShortNumber(s.OutputRate()), ms(s.first_token.p50),
                         ms(s.first_token.p99), ms(s.per_token.p50), ms(s.per_token.p99),
                         ms(s.refusal.p99));
}

std::vector<NamedSummary> ByIndex(const RunFacts& facts, const std::vector<std::string>& names,
                                  std::span<const Outcome> outcomes, int Outcome::*index) {
  std::vector<NamedSummary> groups;
  if (names.size() < 2) return groups;
  for (size_t i = 0; i < names.size(); ++i) {
    std::vector<Outcome> own;
    std::copy_if(outcomes.begin(), outcomes.end(), std::back_inserter(own),
                 [&](const Outcome& outcome) { return outcome.*index == static_cast<int>(i); });
    groups.push_back({names[i], Summarize(own, facts.window, facts.slo)});
  }
  return groups;
}

}  // namespace

RunReport BuildRun(const RunFacts& facts, std::span<const Outcome> outcomes,
                   std::vector<TimelinePoint> timeline) {
  RunReport run{facts.label, facts.offered, Summarize(outcomes, facts.window, facts.slo)};
  run.tenants = ByIndex(facts, facts.tenants, outcomes, &Outcome::tenant);
  run.variants = ByIndex(facts, facts.variants, outcomes, &Outcome::variant);
  run.timeline = std::move(timeline);
  return run;
}

Knee KneeOf(const Report& report) {
  std::vector<SweepPoint> points;
  for (const RunReport& run : report.runs) {
    if (run.offered > 0) points.push_back({run.offered, run.all.Attained()});
  }
  return FindKnee(points, report.attainment);
}

double TenantJainIndex(const RunReport& run) {
  std::vector<double> served;
  for (const NamedSummary& tenant : run.tenants) {
    served.push_back(
        static_cast<double>(tenant.summary.prompt_tokens + tenant.summary.output_tokens));
  }
  return JainIndex(served);
}

std::string ToText(const Report& report) {
  std::string out = absl::StrCat(report.server, "\n", report.workload, "\n");
  absl::StrAppendFormat(&out, "%-28s %7s %7s %7s %6s  %9s %6s  %9s  %8s %8s  %8s %8s  %8s\n", "run",
                        "sent", "done", "refused", "other", "goodput/s", "SLO, %", "tokens/s",
                        "TTFT p50", "p99 ms", "TPOT p50", "p99 ms", "refusal");
  for (const RunReport& run : report.runs) {
    absl::StrAppend(&out, TextLine(run.label, run.all));
    for (const auto* groups : {&run.tenants, &run.variants}) {
      for (const NamedSummary& group : *groups) {
        absl::StrAppend(&out, TextLine(absl::StrCat("  ", group.name), group.summary));
      }
    }
  }
  const Knee knee = KneeOf(report);
  if (knee.fails.has_value() && knee.held.has_value()) {
    absl::StrAppendFormat(&out, "knee: %s requests/s are held, %s are not\n",
                          ShortNumber(*knee.held), ShortNumber(*knee.fails));
  }
  return out;
}

std::string ToJson(const Report& report) {
  ordered_json out = {{"format", kReportFormat},
                      {"date", report.date},
                      {"processor", report.processor},
                      {"server", report.server},
                      {"workload", report.workload},
                      {"slo",
                       {{"first_token_seconds", report.slo.first_token_seconds},
                        {"per_token_seconds", report.slo.per_token_seconds},
                        {"attainment", report.attainment}}}};
  const Knee knee = KneeOf(report);
  const auto rate = [](const std::optional<double>& value) {
    return value.has_value() ? ordered_json(*value) : ordered_json(nullptr);
  };
  out["knee"] = {{"held_per_second", rate(knee.held)}, {"fails_per_second", rate(knee.fails)}};
  out["runs"] = ordered_json::array();
  for (const RunReport& run : report.runs) out["runs"].push_back(RunOf(run));
  return out.dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::string ToCsv(const Report& report) {
  std::string out = "run,group";
  for (const SummaryField& field : SummaryFields()) absl::StrAppend(&out, ",", field.name);
  out += "\n";
  for (const RunReport& run : report.runs) {
    out += CsvLine(run.label, "all", run.all);
    for (const auto* groups : {&run.tenants, &run.variants}) {
      for (const NamedSummary& group : *groups) {
        out += CsvLine(run.label, group.name, group.summary);
      }
    }
  }
  return out;
}

}  // namespace vernier::loadtest
