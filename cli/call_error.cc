#include "cli/call_error.h"

#include <array>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "cli/display_text.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace vernier::cli {
namespace {

constexpr std::array<const char*, 17> kWords = {
    "good",      "cancelled",        "unknown error",     "invalid argument", "the deadline passed",
    "not found", "already exists",   "permission denied", "too busy",         "not possible here",
    "aborted",   "out of range",     "not supported",     "internal error",   "unavailable",
    "data lost", "not authenticated"};

int ExitCodeOf(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::OK:
      return kExitGood;
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::OUT_OF_RANGE:
      return kExitBadInput;
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return kExitUnavailable;
    default:
      return kExitOther;
  }
}

// "sampling.top_p (--top-p)"
std::string FieldAndFlag(absl::string_view field) {
  const size_t at = field.find("sampling.");
  if (at == absl::string_view::npos) return std::string(field);
  const absl::string_view name = field.substr(at + sizeof("sampling.") - 1);
  return absl::StrCat(field, " (--", absl::StrReplaceAll(name, {{"_", "-"}}), ")");
}

struct Details {
  std::vector<std::string> violations;
  double retry_seconds = 0;
};

Details DetailsOf(const grpc::Status& status) {
  Details out;
  google::rpc::Status rich;
  if (!rich.ParseFromString(status.error_details())) return out;
  for (const auto& any : rich.details()) {
    google::rpc::BadRequest bad;
    google::rpc::RetryInfo retry;
    if (any.UnpackTo(&bad)) {
      for (const auto& violation : bad.field_violations()) {
        out.violations.push_back(
            absl::StrCat(FieldAndFlag(violation.field()), " ", violation.description()));
      }
    } else if (any.UnpackTo(&retry)) {
      out.retry_seconds =
          static_cast<double>(retry.retry_delay().seconds()) + 1e-9 * retry.retry_delay().nanos();
    }
  }
  return out;
}

std::string Unreachable(const std::string& message, const std::string& server) {
  // gRPC wraps the reason that matters to most people in three others.
  const bool refused = absl::StrContains(message, "Connection refused");
  return absl::StrCat(server, " cannot be reached (", refused ? "connection refused" : message,
                      "): is vernierd running? Start it with `vernierd --model PATH --variants "
                      "fp16,int8,nf4 --listen ",
                      server, "`, or say where it is with --server HOST:PORT");
}

}  // namespace

std::string CodeWords(int code) {
  if (code < 0 || code >= static_cast<int>(kWords.size())) return absl::StrCat("error ", code);
  return kWords[code];
}

CommandResult Explain(const grpc::Status& status, const CallPlace& place) {
  CommandResult result;
  result.exit_code = ExitCodeOf(status.error_code());
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE && !place.reached) {
    result.error = Neutralize(Unreachable(status.error_message(), place.server));
    return result;
  }
  const Details details = DetailsOf(status);
  const std::string what =
      details.violations.empty() ? status.error_message() : absl::StrJoin(details.violations, "; ");
  std::string text = CodeWords(status.error_code());
  if (!what.empty() && !absl::StartsWith(what, text)) absl::StrAppend(&text, ": ", what);
  if (absl::StartsWith(what, CodeWords(status.error_code()))) text = what;
  if (details.retry_seconds > 0) {
    absl::StrAppendFormat(&text, "; try again in %.1f s", details.retry_seconds);
  }
  result.error = Neutralize(text);
  return result;
}

CommandResult ExplainInput(const absl::Status& status) {
  return {kExitBadInput, Neutralize(std::string(status.message()))};
}

}  // namespace vernier::cli
