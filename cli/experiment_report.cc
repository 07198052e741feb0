#include "cli/experiment_report.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "cli/display_text.h"
#include "cli/interval_chart.h"
#include "cli/table.h"

namespace vernier::cli {
namespace {

constexpr int kLeastChart = 20;  // columns; narrower, it goes on a line of its own
constexpr char kBold[] = "\x1b[1m";
constexpr char kAlarm[] = "\x1b[1;97;41m";  // bold white on red
constexpr char kBad[] = "\x1b[31m";
constexpr char kGood[] = "\x1b[32m";
constexpr char kPlain[] = "\x1b[0m";

// Metrics of the server of which less is better; of others the experiment says so.
constexpr const char* kSmallerIsBetter[] = {"errors", "output_tokens", "score_kl"};

std::string Painted(const char* colour, const std::string& text, const Canvas& canvas) {
  return canvas.colour && *colour != '\0' ? absl::StrCat(colour, text, kPlain) : text;
}

// Words of `text` in lines of the canvas, all but the first indented; ends with '\n'.
std::string Paragraph(const std::string& text, int indent, const Canvas& canvas) {
  std::string out;
  int used = 0;
  const int columns = std::max(canvas.columns, indent + kLeastNameColumns);
  const std::string safe = Neutralize(text);
  for (absl::string_view part : absl::StrSplit(safe, absl::ByAnyChar(" \n\t"), absl::SkipEmpty())) {
    const std::string word = Shorten(part, columns - indent);
    const int width = DisplayWidth(word);
    if (used > 0 && used + 1 + width > columns) {
      absl::StrAppend(&out, "\n", std::string(indent, ' '));
      used = indent;
    } else if (used > 0) {
      out += ' ';
      ++used;
    }
    out += word;
    used += width;
  }
  return out + "\n";
}

std::string Heading(const std::string& text, const Canvas& canvas) {
  return absl::StrCat("\n", Painted(kBold, Shorten(Neutralize(text), canvas.columns), canvas),
                      "\n");
}

std::string ShortNumber(double value) {
  return std::isnan(value) ? kNotMeasured : absl::StrFormat("%.4g", value);
}

std::string SignedNumber(double value) {
  return std::isnan(value) ? kNotMeasured : absl::StrFormat("%+.4g", value);
}

std::string CountAndShare(uint64_t count, uint64_t all) {
  if (all == 0) return absl::StrCat(count);
  return absl::StrCat(count, " (",
                      FormatPercent(static_cast<double>(count) / static_cast<double>(all)), ")");
}

std::string BoundsText(double low, double high) {
  if (std::isnan(low) || std::isnan(high)) return kNotMeasured;
  if (std::isinf(low) && std::isinf(high)) return "none yet";
  return absl::StrCat("[", SignedNumber(low), ", ", SignedNumber(high), "]");
}

std::string StateName(const v1::Experiment& experiment) {
  return v1::Experiment::State_Name(experiment.state());
}

const char* StateColour(v1::Experiment::State state) {
  if (state == v1::Experiment::ROLLED_BACK) return kBad;
  return state == v1::Experiment::RUNNING || state == v1::Experiment::PROMOTED ? kGood : kBold;
}

std::string UnitsName(v1::Experiment::Unit unit) {
  return unit == v1::Experiment::REQUEST ? "requests"
         : unit == v1::Experiment::USER  ? "users"
                                         : "sessions";
}

std::string ControlOf(const v1::Experiment& experiment) {
  if (!experiment.control().empty() || experiment.arms_size() == 0) return experiment.control();
  return experiment.arms(0).name();
}

bool IsAaTest(const v1::Experiment& experiment) {
  std::set<std::string> variants;
  for (const v1::ExperimentArm& arm : experiment.arms()) variants.insert(arm.variant());
  return experiment.arms_size() > 1 && variants.size() == 1;
}

std::string StepText(const v1::Experiment& experiment) {
  if (experiment.step() >= static_cast<uint32_t>(experiment.ramp_size())) return "";
  return absl::StrCat("step ", experiment.step() + 1, " of ", experiment.ramp_size(), ": ",
                      ShortNumber(experiment.ramp(static_cast<int>(experiment.step())) * 100),
                      " % of ", UnitsName(experiment.unit()), " take part");
}

bool SmallerIsBetter(const v1::Experiment& experiment, const std::string& metric) {
  for (const v1::FeedbackMetric& declared : experiment.metrics()) {
    if (declared.name() == metric) return declared.smaller_is_better();
  }
  return std::find(std::begin(kSmallerIsBetter), std::end(kSmallerIsBetter), metric) !=
         std::end(kSmallerIsBetter);
}

// What a treatment may lose, as a difference; none for what is not the primary metric.
std::optional<double> MarginOf(const v1::Experiment& experiment, const std::string& metric) {
  const v1::ExperimentDecision& decision = experiment.decision();
  if (metric != decision.primary() || decision.margin() <= 0) return {};
  return SmallerIsBetter(experiment, metric) ? decision.margin() : -decision.margin();
}

// ---- Sections ----

std::string Header(const v1::Experiment& experiment, const Canvas& canvas) {
  const std::string state = StateName(experiment);
  const std::string id =
      Shorten(Neutralize(experiment.id()), canvas.columns - 2 - DisplayWidth(state));
  std::string out = absl::StrCat(Painted(kBold, id, canvas), ": ",
                                 Painted(StateColour(experiment.state()), state, canvas), "\n");
  std::string facts = StepText(experiment);
  absl::StrAppend(&facts, facts.empty() ? "" : "; ", "control ", ControlOf(experiment));
  if (!experiment.promoted().empty()) absl::StrAppend(&facts, "; promoted ", experiment.promoted());
  if (!experiment.layer().empty()) absl::StrAppend(&facts, "; layer ", experiment.layer());
  absl::StrAppend(&facts, "; version ", experiment.version());
  out += Paragraph(facts, 0, canvas);
  if (!experiment.state_reason().empty()) {
    out += Paragraph(absl::StrCat("last change: ", experiment.state_reason()), 0, canvas);
  }
  if (IsAaTest(experiment)) {
    out += Paragraph("an A/A test: all arms are one variant, so no difference may be found", 0,
                     canvas);
  }
  return out;
}

// Across the whole width, so that nobody reads past it.
std::string InvalidBanner(const v1::ExperimentReport& report, const Canvas& canvas) {
  if (!IsInvalid(report)) return "";
  const std::string word = " INVALID ";
  const int around = std::max(canvas.columns - DisplayWidth(word), 2);
  const std::string line =
      absl::StrCat(std::string(around / 2, '!'), word, std::string(around - around / 2, '!'));
  std::string out = absl::StrCat("\n", Painted(kAlarm, line, canvas), "\n");
  for (const v1::GateReport& gate : report.gates()) {
    if (!gate.passed()) out += Paragraph(absl::StrCat(gate.gate(), ": ", gate.reason()), 2, canvas);
  }
  return out + Paragraph("Nothing below may be concluded.", 0, canvas);
}

std::string ArmTitle(const v1::ExperimentReport& report, const std::string& arm) {
  return absl::StrCat(arm, arm == ControlOf(report.experiment()) ? " (control)" : "");
}

std::string Arms(const v1::ExperimentReport& report, const Canvas& canvas) {
  Table table;
  table.left_aligned = 2;
  table.header = {"arm", "variant", "requests", "ended", "units", "errors", "broken"};
  for (const v1::ArmReport& arm : report.arms()) {
    table.rows.push_back({ArmTitle(report, arm.arm()), arm.variant(), absl::StrCat(arm.requests()),
                          absl::StrCat(arm.ended()), absl::StrCat(arm.units()),
                          CountAndShare(arm.errors(), arm.ended()),
                          CountAndShare(arm.broken(), arm.ended())});
  }
  return table.rows.empty() ? "" : absl::StrCat("\n", RenderTableWithin(table, canvas.columns));
}

std::string QuantilesText(const v1::Quantiles& q) {
  if (q.count() == 0) return kNotMeasured;
  return absl::StrCat(FormatSeconds(q.p50()), " / ", FormatSeconds(q.p90()), " / ",
                      FormatSeconds(q.p99()));
}

std::string Latency(const v1::ExperimentReport& report, const Canvas& canvas) {
  Table table;
  table.header = {"p50 / p90 / p99", "first token", "per token", "total"};
  for (const v1::ArmReport& arm : report.arms()) {
    table.rows.push_back({ArmTitle(report, arm.arm()), QuantilesText(arm.first_token()),
                          QuantilesText(arm.inter_token()), QuantilesText(arm.total())});
  }
  if (table.rows.empty()) return "";
  return absl::StrCat(
      Heading("latency of the mixture", canvas), RenderTableWithin(table, canvas.columns),
      Paragraph(
          "Arms share a device and disturb each other: these times are no property of a variant.",
          0, canvas));
}

std::string Gates(const v1::ExperimentReport& report, const Canvas& canvas) {
  if (report.gates_size() + report.holds_size() == 0) return "";
  std::string out = Heading("gates", canvas);
  for (const v1::GateReport& gate : report.gates()) {
    const std::string text = Paragraph(
        absl::StrCat(gate.passed() ? "passed" : "FAILED", " ", gate.gate(), ": ", gate.reason()), 7,
        canvas);
    out += gate.passed() ? text : Painted(kBad, text, canvas);
  }
  for (const v1::GateReport& hold : report.holds()) {
    if (hold.passed()) continue;
    out += Paragraph(absl::StrCat("HOLDS the ramp: ", hold.gate(), ": ", hold.reason()), 7, canvas);
  }
  return out;
}

// A metric's rows together, in the order in which the report names the metrics; of those alone that
// have values.
std::vector<const v1::MetricReport*> ByMetric(const v1::ExperimentReport& report) {
  std::map<std::string, size_t> order;
  std::vector<const v1::MetricReport*> rows;
  for (const v1::MetricReport& metric : report.metrics()) {
    if (metric.control_count() + metric.treatment_count() == 0) continue;
    order.try_emplace(metric.metric(), order.size());
    rows.push_back(&metric);
  }
  std::stable_sort(rows.begin(), rows.end(), [&](const auto* a, const auto* b) {
    return order.at(a->metric()) < order.at(b->metric());
  });
  return rows;
}

// Of all arms of a metric, so that their charts compare.
double ExtentOf(const v1::ExperimentReport& report, const std::string& metric) {
  constexpr double kRoom = 1.05;
  double extent = std::abs(MarginOf(report.experiment(), metric).value_or(0));
  for (const v1::MetricReport& row : report.metrics()) {
    if (row.metric() != metric) continue;
    for (const double value : {row.low(), row.difference(), row.high()}) {
      if (std::isfinite(value)) extent = std::max(extent, std::abs(value));
    }
  }
  // Also where that is 0, or so large that the room overflows.
  return extent > 0 && std::isfinite(extent * kRoom) ? extent * kRoom : std::max(extent, 1.0);
}

// Red: certainly worse, or by more than may be lost. Green: certainly no worse than that.
const char* ColourOf(const v1::ExperimentReport& report, const v1::MetricReport& row) {
  if (IsInvalid(report)) return "";
  const bool smaller = SmallerIsBetter(report.experiment(), row.metric());
  const double worst = smaller ? -row.high() : row.low();
  const double best = smaller ? -row.low() : row.high();
  const double limit = -std::abs(MarginOf(report.experiment(), row.metric()).value_or(0));
  return best < limit ? kBad : worst > limit ? kGood : "";
}

std::string Chart(const v1::ExperimentReport& report, const v1::MetricReport& row, int columns,
                  const Canvas& canvas) {
  const Interval interval{row.low(), row.difference(), row.high(),
                          MarginOf(report.experiment(), row.metric())};
  return Painted(ColourOf(report, row),
                 IntervalChart(interval, ExtentOf(report, row.metric()), columns), canvas);
}

// Charts to the right of the table where there is room, else each under its own name.
std::string WithCharts(const v1::ExperimentReport& report,
                       const std::vector<const v1::MetricReport*>& rows, const Table& table,
                       const Canvas& canvas) {
  const std::string text = RenderTable(table);
  const std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  int width = 0;
  for (const std::string& line : lines) width = std::max(width, DisplayWidth(line));
  const int room = canvas.columns - width - 2;
  std::string out;
  if (room >= kLeastChart) {
    absl::StrAppend(&out, lines[0], "\n");
    for (size_t i = 0; i < rows.size(); ++i) {
      const std::string& line = lines[i + 1];
      absl::StrAppend(&out, line, std::string(width - DisplayWidth(line) + 2, ' '),
                      Chart(report, *rows[i], room, canvas), "\n");
    }
    return out;
  }
  out = RenderTableWithin(table, canvas.columns);
  for (const v1::MetricReport* row : rows) {
    const std::string name = Neutralize(absl::StrCat(row->metric(), ", ", row->arm()));
    absl::StrAppend(&out, Shorten(name, canvas.columns), "\n",
                    Chart(report, *row, canvas.columns, canvas), "\n");
  }
  return out;
}

std::string Differences(const v1::ExperimentReport& report, const Canvas& canvas) {
  const std::vector<const v1::MetricReport*> rows = ByMetric(report);
  if (rows.empty()) return "";
  Table bounds;
  Table values;
  bounds.left_aligned = values.left_aligned = 2;
  bounds.header = {"metric", "arm", "difference", "bounds"};
  values.header = {"metric",    "arm",         "control",    "treatment",
                   "n control", "n treatment", "any-time p", "data"};
  for (const v1::MetricReport* row : rows) {
    bounds.rows.push_back({row->metric(), row->arm(), SignedNumber(row->difference()),
                           BoundsText(row->low(), row->high())});
    const auto of_arm = [&](double mean) {  // of pairs only their difference is kept
      return row->paired() ? std::string(kNotMeasured) : ShortNumber(mean);
    };
    values.rows.push_back({row->metric(), row->arm(), of_arm(row->control_mean()),
                           of_arm(row->treatment_mean()), absl::StrCat(row->control_count()),
                           absl::StrCat(row->treatment_count()), ShortNumber(row->p()),
                           row->paired() ? "paired" : "split"});
  }
  const std::string title =
      absl::StrCat("differences from ", ControlOf(report.experiment()),
                   ", bounds that hold at every look", IsInvalid(report) ? " (INVALID)" : "");
  return absl::StrCat(Heading(title, canvas), WithCharts(report, rows, bounds, canvas),
                      Paragraph(kChartLegend, 0, canvas), "\n",
                      RenderTableWithin(values, canvas.columns));
}

std::string Shadows(const v1::ExperimentReport& report, const Canvas& canvas) {
  Table table;
  table.header = {"arm",       "mirrored", "dropped",  "scored", "KL mean",
                  "KL bounds", "top-1",    "parts at", "same",   "length"};
  for (const v1::ShadowReport& shadow : report.shadows()) {
    const auto scored = [&](const std::string& text) {
      return shadow.scored() > 0 ? text : kNotMeasured;
    };
    table.rows.push_back({shadow.arm(), absl::StrCat(shadow.mirrored()),
                          absl::StrCat(shadow.dropped()), absl::StrCat(shadow.scored()),
                          scored(ShortNumber(shadow.kl_mean())),
                          scored(BoundsText(shadow.kl_low(), shadow.kl_high())),
                          scored(FormatPercent(shadow.top1_mean())),
                          scored(FormatNumber(shadow.first_divergence_p50(), 0)),
                          scored(FormatPercent(shadow.same_share())),
                          scored(FormatPercent(shadow.length_ratio_mean()))});
  }
  if (table.rows.empty()) return "";
  const std::string title = absl::StrCat("shadows, scored under ", ControlOf(report.experiment()),
                                         "; KL in nats a token");
  return absl::StrCat(Heading(title, canvas), RenderTableWithin(table, canvas.columns));
}

std::string LimitTitle(const char* name, bool has, double limit) {
  return has ? absl::StrCat(name, ", at most ", ShortNumber(limit * 100), " %") : name;
}

std::string Guardrails(const v1::ExperimentReport& report, const Canvas& canvas) {
  const v1::ExperimentGuardrails& limits = report.experiment().guardrails();
  if (limits.off()) return Heading("guardrails: off, but for NaN logits", canvas);
  std::map<std::string, double> kl;
  for (const v1::ShadowReport& shadow : report.shadows()) {
    if (shadow.scored() > 0) kl[shadow.arm()] = shadow.kl_mean();
  }
  Table table;
  table.header = {"arm", LimitTitle("errors", limits.has_max_error_rate(), limits.max_error_rate()),
                  LimitTitle("broken", limits.has_max_broken_rate(), limits.max_broken_rate()),
                  limits.has_max_kl() ? absl::StrCat("KL, at most ", ShortNumber(limits.max_kl()))
                                      : "KL, no limit"};
  const auto share = [](uint64_t count, uint64_t all) {
    return all == 0 ? kNotMeasured
                    : FormatPercent(static_cast<double>(count) / static_cast<double>(all));
  };
  for (const v1::ArmReport& arm : report.arms()) {
    if (arm.arm() == ControlOf(report.experiment())) continue;
    const auto scored = kl.find(arm.arm());
    table.rows.push_back({arm.arm(), share(arm.errors(), arm.ended()),
                          share(arm.broken(), arm.ended()),
                          scored == kl.end() ? kNotMeasured : ShortNumber(scored->second)});
  }
  if (table.rows.empty()) return "";
  const bool crossed = report.experiment().state() == v1::Experiment::ROLLED_BACK;
  return absl::StrCat(Heading(crossed ? "guardrails, after the roll back" : "guardrails", canvas),
                      RenderTableWithin(table, canvas.columns));
}

std::string VerdictText(const v1::ExperimentReport::Verdict& verdict) {
  std::string text =
      absl::StrCat(verdict.arm(), ": ",
                   absl::StrReplaceAll(absl::AsciiStrToUpper(verdict.verdict()), {{"_", "-"}}));
  if (verdict.needed() > 0) {
    absl::StrAppendFormat(&text, " (a test of fixed size needs %.0f values an arm)",
                          std::ceil(verdict.needed()));
  }
  if (!verdict.reason().empty()) {
    absl::StrAppend(&text, "; ", verdict.reason());
  }
  return text;
}

std::string Verdicts(const v1::ExperimentReport& report, const Canvas& canvas) {
  const v1::ExperimentDecision& decision = report.experiment().decision();
  if (decision.primary().empty()) {
    return Heading("verdict", canvas) +
           Paragraph("None: the experiment has no primary metric with a margin.", 0, canvas);
  }
  std::string out = Heading(absl::StrCat("verdict on ", decision.primary(), ": may lose at most ",
                                         ShortNumber(decision.margin())),
                            canvas);
  if (IsInvalid(report)) return out + Painted(kAlarm, "INVALID", canvas) + ": a gate failed\n";
  for (const v1::ExperimentReport::Verdict& verdict : report.verdicts()) {
    const char* colour = verdict.verdict() == "non_inferior" ? kGood
                         : verdict.verdict() == "inferior"   ? kBad
                                                             : "";
    out += Painted(colour, Paragraph(VerdictText(verdict), 2, canvas), canvas);
  }
  return report.verdicts_size() > 0 ? out : out + "None yet.\n";
}

std::string LeftOut(const v1::ExperimentReport& report, const Canvas& canvas) {
  std::string out = "\n";
  out += Paragraph(
      absl::StrCat("left out: ", report.forced(), " that named their variant, ",
                   report.without_unit(), " without a unit; feedback: ", report.feedback(),
                   ", of it ", report.feedback_orphans(), " for exposures that are not known"),
      0, canvas);
  if (report.log_dropped() > 0) {
    out += Painted(kBad,
                   Paragraph(absl::StrCat(report.log_dropped(),
                                          " exposures were lost: the log did not keep up"),
                             0, canvas),
                   canvas);
  }
  return out;
}

}  // namespace

bool IsInvalid(const v1::ExperimentReport& report) {
  const bool failed = std::any_of(report.gates().begin(), report.gates().end(),
                                  [](const v1::GateReport& gate) { return !gate.passed(); });
  return failed || !report.valid();
}

std::string RenderExperiment(const v1::ExperimentReport& report, const Canvas& canvas) {
  return absl::StrCat(Header(report.experiment(), canvas), InvalidBanner(report, canvas),
                      Arms(report, canvas), Latency(report, canvas), Gates(report, canvas),
                      Differences(report, canvas), Shadows(report, canvas),
                      Guardrails(report, canvas), Verdicts(report, canvas),
                      LeftOut(report, canvas));
}

std::string RenderExperiments(const v1::ListExperimentsResponse& reply, const Canvas& canvas) {
  if (reply.experiments_size() == 0) return "none yet: `vernier experiment create` makes one\n";
  Table table;
  table.left_aligned = 1;
  table.header = {"experiment", "state", "arms", "take part", "primary", "margin", "version"};
  for (const v1::Experiment& experiment : reply.experiments()) {
    const bool in_ramp = experiment.step() < static_cast<uint32_t>(experiment.ramp_size());
    const v1::ExperimentDecision& decision = experiment.decision();
    table.rows.push_back(
        {experiment.id(), StateName(experiment), absl::StrCat(experiment.arms_size()),
         in_ramp ? FormatPercent(experiment.ramp(static_cast<int>(experiment.step())))
                 : kNotMeasured,
         decision.primary().empty() ? kNotMeasured
                                    : Shorten(Neutralize(decision.primary()), kLeastChart),
         decision.primary().empty() ? kNotMeasured : ShortNumber(decision.margin()),
         absl::StrCat(experiment.version())});
  }
  return RenderTableWithin(table, canvas.columns);
}

std::string RenderExplanation(const v1::ExplainAssignmentResponse& reply, const Canvas& canvas) {
  Table table;
  table.left_aligned = 3;
  table.header = {"experiment", "arm", "variant", "reason", "bucket"};
  for (const auto& entry : reply.entries()) {
    table.rows.push_back({entry.experiment(), entry.arm().empty() ? kNotMeasured : entry.arm(),
                          entry.variant().empty() ? kNotMeasured : entry.variant(), entry.reason(),
                          entry.has_bucket() ? FormatNumber(entry.bucket(), 4) : kNotMeasured});
  }
  const std::string served = Paragraph(absl::StrCat("served by ", reply.variant()), 0, canvas);
  return table.rows.empty() ? served
                            : absl::StrCat(RenderTableWithin(table, canvas.columns), served);
}

std::string ExperimentSummary(const v1::Experiment& experiment) {
  const std::string step = StepText(experiment);
  std::string out =
      absl::StrCat(experiment.id(), ": ", StateName(experiment), step.empty() ? "" : ", ", step,
                   "; version ", experiment.version(), "\n");
  if (!experiment.state_reason().empty()) absl::StrAppend(&out, experiment.state_reason(), "\n");
  return Neutralize(out);
}

}  // namespace vernier::cli
