#include "cli/compare_report.h"

#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cli/call_error.h"
#include "cli/display_text.h"
#include "cli/table.h"

namespace vernier::cli {
namespace {

constexpr double kNearTie = 0.1;  // logits; below, rounding alone may turn the choice

std::string TitleOf(const v1::VariantResult& result) {
  return absl::StrCat(result.served_by().variant(), result.is_control()     ? " (control)"
                                                    : result.is_reference() ? " (reference)"
                                                                            : "");
}

// Ids where the model has no tokenizer.
std::string AnswerOf(const v1::Completion& completion) {
  if (!completion.text().empty()) return completion.text();
  return absl::StrJoin(completion.token_ids(), " ");
}

std::string FailureOf(const v1::VariantResult& result) {
  return absl::StrCat(CodeWords(static_cast<int>(result.status_code())), ": ",
                      result.status_message());
}

const v1::VariantResult* ReferenceOf(const v1::CompareResponse& reply) {
  for (const v1::VariantResult& result : reply.results()) {
    if (result.is_reference() && !result.is_control()) return &result;
  }
  return nullptr;
}

std::string Answers(const v1::CompareResponse& reply, const Canvas& canvas) {
  const v1::VariantResult* reference = ReferenceOf(reply);
  std::vector<Column> columns;
  bool any = false;
  for (const v1::VariantResult& result : reply.results()) {
    Column column{TitleOf(result), AnswerOf(result.completion()), {}};
    any = any || result.has_completion();
    if (result.status_code() != 0) {
      column.text += absl::StrCat(column.text.empty() ? "" : "\n", "FAILED, ", FailureOf(result));
    } else if (result.has_divergence() && !result.divergence().identical() &&
               reference != nullptr) {
      column.parts_at = CommonStart(column.text, AnswerOf(reference->completion()));
    }
    columns.push_back(std::move(column));
  }
  return any ? absl::StrCat(RenderColumns(columns, canvas), "\n") : "";
}

// Rows of results for which `has` holds; empty without any.
template <typename Has, typename Cells>
std::string Section(const v1::CompareResponse& reply, std::vector<std::string> header, Has has,
                    Cells cells) {
  Table table;
  table.header = std::move(header);
  for (const v1::VariantResult& result : reply.results()) {
    if (!has(result)) continue;
    std::vector<std::string> row = cells(result);
    row.insert(row.begin(), TitleOf(result));
    table.rows.push_back(std::move(row));
  }
  return table.rows.empty() ? "" : absl::StrCat(RenderTable(table), "\n");
}

std::vector<std::string> ForcedCells(const v1::VariantResult& result) {
  const v1::ForcedScores& forced = result.forced();
  const std::string perplexity =
      forced.positions() > 0 ? FormatNumber(forced.perplexity(), 3) : kNotMeasured;
  // The reference's scores hold its perplexity alone.
  if (result.is_reference() && !result.is_control()) {
    const std::string none = kNotMeasured;
    return {none, none, none, none, none, perplexity, none};
  }
  return {FormatNumber(forced.kl().mean(), 5),
          FormatNumber(forced.kl().p99(), 5),
          FormatNumber(forced.kl().max(), 5),
          FormatPercent(forced.top1_agreement()),
          FormatPercent(forced.top_k_overlap()),
          perplexity,
          FormatNumber(forced.log_perplexity_difference(), 5)};
}

std::string Quality(const v1::CompareResponse& reply) {
  return Section(
      reply,
      {"quality", "KL mean", "KL p99", "KL max", "top-1", "top-k", "perplexity", "ln difference"},
      [](const v1::VariantResult& r) { return r.has_forced(); }, ForcedCells);
}

std::string Divergences(const v1::CompareResponse& reply) {
  return Section(
      reply, {"first divergence", "token", "margin", "edits", "length"},
      [](const v1::VariantResult& r) { return r.has_divergence(); },
      [](const v1::VariantResult& r) -> std::vector<std::string> {
        const v1::Divergence& d = r.divergence();
        return {d.identical() ? "identical" : absl::StrCat(d.position()),
                d.has_margin() ? FormatNumber(d.margin(), 3) : kNotMeasured,
                absl::StrCat(d.edit_distance_tokens()), FormatPercent(d.length_ratio())};
      });
}

std::string Speed(const v1::CompareResponse& reply) {
  return Section(
      reply, {"speed", "tokens", "ended by", "first token", "per token", "tokens/s", "total"},
      [](const v1::VariantResult& r) { return r.has_completion(); },
      [](const v1::VariantResult& r) -> std::vector<std::string> {
        const v1::Completion& c = r.completion();
        const v1::Timings& t = c.timings();
        return {absl::StrCat(c.usage().completion_tokens()),
                absl::AsciiStrToLower(v1::FinishReason_Name(c.finish_reason())),
                FormatSeconds(t.time_to_first_token_seconds()),
                c.usage().completion_tokens() > 1 ? FormatSeconds(t.mean_inter_token_seconds())
                                                  : kNotMeasured,
                FormatNumber(t.tokens_per_second(), 1),
                FormatSeconds(t.total_seconds())};
      });
}

std::string MemoryTable(const v1::CompareResponse& reply) {
  return Section(
      reply, {"memory", "format", "own", "shared", "KV/token"},
      [](const v1::VariantResult& r) { return r.has_memory() && !r.is_control(); },
      [](const v1::VariantResult& r) -> std::vector<std::string> {
        return {r.served_by().precision(), FormatBytes(r.memory().own_weight_bytes()),
                FormatBytes(r.memory().shared_weight_bytes()),
                FormatBytes(r.memory().kv_bytes_per_token())};
      });
}

// Warnings that change how the tables are to be read.
std::string Warnings(const v1::CompareResponse& reply, bool serial) {
  std::string out;
  if (reply.reference_is_quantized()) {
    absl::StrAppend(&out, "The reference is itself quantized: quality is relative to ",
                    reply.reference(), " of these weights, not to the original model.\n");
  }
  bool free = false;
  for (const v1::VariantResult& result : reply.results()) {
    free = free || result.has_completion();
    if (result.status_code() != 0) {
      absl::StrAppend(&out, TitleOf(result), " failed: ", FailureOf(result), "\n");
    }
    const v1::Divergence& d = result.divergence();
    if (result.has_divergence() && !d.identical() && d.has_margin() && d.margin() < kNearTie) {
      absl::StrAppend(&out, TitleOf(result), " parts at a near tie (margin ",
                      FormatNumber(d.margin(), 3),
                      " logits): the smallest error turns that choice.\n");
    }
  }
  if (free && !serial && reply.results_size() > 1) {
    out += "The variants ran at once: their times disturb each other (--serial avoids that).\n";
  }
  if (reply.requests_running() > 0) {
    absl::StrAppend(&out, "Other requests running beside: ", reply.requests_running(), ".\n");
  }
  return out;
}

std::string ServedBy(const v1::CompareResponse& reply) {
  if (reply.results_size() == 0) return "";
  const v1::VariantResult* reference = ReferenceOf(reply);
  const v1::ServedBy& served = (reference != nullptr ? *reference : reply.results(0)).served_by();
  std::string out =
      absl::StrCat("source: ", served.source(), "\n", "served by: ", served.model(), ", weights ",
                   served.weights_sha256().substr(0, 12), ", seed ", served.seed(), "; ",
                   reply.prompt_token_ids_size(), " prompt tokens");
  if (reply.forced_token_ids_size() > 0) {
    absl::StrAppend(&out, ", ", reply.forced_token_ids_size(), " scored");
  }
  return out + "\n";
}

}  // namespace

std::string RenderCompare(const v1::CompareResponse& reply, const CompareView& view) {
  return absl::StrCat(Answers(reply, view.canvas), Quality(reply), Divergences(reply), Speed(reply),
                      MemoryTable(reply), Neutralize(ServedBy(reply)),
                      Neutralize(Warnings(reply, view.serial)));
}

}  // namespace vernier::cli
