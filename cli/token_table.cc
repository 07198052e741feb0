#include "cli/token_table.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/table.h"
#include "engine/text/utf8.h"

namespace vernier::cli {
namespace {

void AppendQuoted(char32_t c, absl::string_view bytes, std::string* out) {
  if (c == '\n') {
    *out += "\\n";
  } else if (c == '\t') {
    *out += "\\t";
  } else if (c == '\r') {
    *out += "\\r";
  } else if (c == '"' || c == '\\') {
    *out += '\\';
    *out += static_cast<char>(c);
  } else if (c < 0x20 || c == 0x7F) {
    absl::StrAppendFormat(out, "\\x%02x", static_cast<unsigned>(c));
  } else {
    out->append(bytes.data(), bytes.size());
  }
}

}  // namespace

std::string QuotePiece(absl::string_view bytes) {
  std::string out = "\"";
  while (!bytes.empty()) {
    const Utf8Unit unit = FirstUtf8Unit(bytes);
    const absl::string_view own = bytes.substr(0, unit.bytes);
    if (unit.kind == Utf8Kind::kWhole) {
      AppendQuoted(unit.code_point, own, &out);
    } else {
      for (const char byte : own) {
        absl::StrAppendFormat(&out, "\\x%02x", static_cast<unsigned char>(byte));
      }
    }
    bytes.remove_prefix(unit.bytes);
  }
  return out + "\"";
}

std::string RenderTokens(const google::protobuf::RepeatedPtrField<v1::TokenDetail>& details,
                         const std::function<uint64_t(int)>& position_of) {
  Table table;
  table.header = {"position", "id", "logprob", "token"};
  table.left_aligned = 0;
  bool has_top = false;
  for (const v1::TokenDetail& detail : details) has_top = has_top || detail.top_size() > 0;
  if (has_top) table.header.push_back("best");
  table.texts_from = 3;
  for (int i = 0; i < details.size(); ++i) {
    const v1::TokenLogprob& chosen = details[i].chosen();
    std::vector<std::string> row = {absl::StrCat(position_of(i)), absl::StrCat(chosen.token_id()),
                                    FormatNumber(chosen.logprob(), 4), QuotePiece(chosen.token())};
    std::string best;
    for (const v1::TokenLogprob& top : details[i].top()) {
      absl::StrAppend(&best, best.empty() ? "" : "  ", QuotePiece(top.token()), " ",
                      FormatNumber(top.logprob(), 3));
    }
    if (has_top) row.push_back(best);
    table.rows.push_back(std::move(row));
  }
  return RenderTable(table);
}

std::string ServedByText(const v1::ServedBy& served) {
  return absl::StrCat(served.model(), " ", served.variant(), " (", served.precision(),
                      " weights, source: ", served.source(), ")", ExperimentText(served));
}

std::string ExperimentText(const v1::ServedBy& served) {
  if (served.experiment().empty()) return "";
  const std::string arm = served.arm().empty() ? "no arm" : absl::StrCat("arm ", served.arm());
  return absl::StrCat("; experiment ", served.experiment(), ", ", arm, ", exposure ",
                      served.exposure_id().empty() ? kNotMeasured : served.exposure_id());
}

}  // namespace vernier::cli
