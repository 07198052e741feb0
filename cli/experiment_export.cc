#include "cli/experiment_export.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "cli/json_output.h"

namespace vernier::cli {
namespace {

using nlohmann::ordered_json;

constexpr const char* kQuantiles[] = {"queue", "first_token", "inter_token", "total"};

void SetNull(ordered_json* json, std::initializer_list<const char*> names) {
  for (const char* name : names) (*json)[name] = nullptr;
}

std::string Field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  return absl::StrCat("\"", absl::StrReplaceAll(text, {{"\"", "\"\""}}), "\"");
}

std::string Value(const ordered_json& value) {
  if (value.is_null()) return "";
  return value.is_string() ? Field(value.get<std::string>()) : value.dump();
}

// What names a row, and is no figure of it.
bool IsKey(const std::string& name) { return name == "arm" || name == "metric" || name == "gate"; }

struct Row {
  const char* section;
  std::string arm;
  std::string metric;
};

// Objects within give "total.p99".
void Append(const Row& row, const std::string& prefix, const ordered_json& figures,
            std::string* out) {
  for (const auto& [name, value] : figures.items()) {
    if (prefix.empty() && IsKey(name)) continue;
    if (value.is_object()) {
      Append(row, absl::StrCat(name, "."), value, out);
      continue;
    }
    absl::StrAppend(out, row.section, ",", Field(row.arm), ",", Field(row.metric), ",", prefix,
                    name, ",", Value(value), "\r\n");
  }
}

void AppendAll(const char* section, const ordered_json& rows, std::string* out) {
  for (const ordered_json& row : rows) {
    const char* metric = row.contains("gate") ? "gate" : "metric";
    Append({section, row.value("arm", ""), row.value(metric, "")}, "", row, out);
  }
}

}  // namespace

ordered_json ReportJson(const v1::ExperimentReport& report) {
  ordered_json json = ToJson(report);
  for (ordered_json& arm : json["arms"]) {
    for (const char* name : kQuantiles) {
      ordered_json& quantiles = arm[name];
      if (quantiles.is_object() && quantiles["count"] == 0)
        SetNull(&quantiles, {"p50", "p90", "p99"});
    }
  }
  for (ordered_json& shadow : json["shadows"]) {
    if (shadow["scored"] != 0) continue;
    SetNull(&shadow, {"kl_mean", "kl_low", "kl_high", "top1_mean", "first_divergence_p50",
                      "same_share", "length_ratio_mean"});
  }
  for (ordered_json& metric : json["metrics"]) {
    if (metric["paired"] == true) SetNull(&metric, {"control_mean", "treatment_mean"});
  }
  for (ordered_json& verdict : json["verdicts"]) {
    if (verdict["needed"] == 0) SetNull(&verdict, {"needed"});
  }
  return json;
}

std::string ReportCsv(const v1::ExperimentReport& report) {
  const ordered_json json = ReportJson(report);
  std::string out = "section,arm,metric,figure,value\r\n";
  const v1::Experiment& experiment = report.experiment();
  ordered_json whole = {{"id", experiment.id()},
                        {"version", experiment.version()},
                        {"state", v1::Experiment::State_Name(experiment.state())},
                        {"step", experiment.step()}};
  for (const char* name :
       {"valid", "forced", "without_unit", "feedback", "feedback_orphans", "feedback_left_out",
        "exposures_forgotten", "unit_share", "log_dropped"}) {
    whole[name] = json[name];
  }
  Append({"experiment", "", ""}, "", whole, &out);
  for (const char* section :
       {"arms", "gates", "holds", "metrics", "preferences", "shadows", "verdicts"}) {
    AppendAll(section, json[section], &out);
  }
  return out;
}

}  // namespace vernier::cli
