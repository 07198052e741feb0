#include "server/wire_status.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/status_payload.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "kernels/base/log.h"
#include "server/convert.h"

namespace vernier {
namespace {

constexpr int64_t kLeastPushbackMs = 50;
constexpr int64_t kMostPushbackMs = 10000;

// Uniform in [0.8, 1.2), so that clients refused together do not come back together.
double Jitter() {
  static std::atomic<uint64_t> state{DrawSeed()};
  uint64_t x = state.fetch_add(0x9e3779b97f4a7c15, std::memory_order_relaxed);
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  x ^= x >> 31;
  return 0.8 + 0.4 * static_cast<double>(x >> 11) * 0x1p-53;
}

std::optional<int64_t> Pushback(const absl::Status& status) {
  if (status.code() != absl::StatusCode::kResourceExhausted &&
      status.code() != absl::StatusCode::kUnavailable) {
    return std::nullopt;
  }
  // Loading, or an engine that a restart will replace: a second. Slow readers: a retry cannot help.
  const bool unavailable = status.code() == absl::StatusCode::kUnavailable;
  const absl::Duration hint =
      RetryAfterOf(status).value_or(unavailable ? absl::Seconds(1) : -absl::Seconds(1));
  if (hint < absl::ZeroDuration()) return -1;
  const double ms = absl::ToDoubleMilliseconds(hint) * Jitter();
  return std::clamp(static_cast<int64_t>(std::min(ms, 1e9)), kLeastPushbackMs, kMostPushbackMs);
}

std::string IncidentText(const absl::Status& status) {
  const std::string id = absl::StrCat(absl::Hex(DrawSeed(), absl::kZeroPad16));
  Log(LogLevel::kError, absl::StrCat("incident ", id, ": ", status.ToString()));
  return absl::StrCat("internal error, incident ", id);
}

}  // namespace

WireStatus ToWire(const absl::Status& status) {
  WireStatus wire;
  wire.code = static_cast<int>(status.code());
  if (status.ok()) return wire;
  wire.message = std::string(status.message());
  if (status.code() == absl::StatusCode::kInternal || status.code() == absl::StatusCode::kUnknown) {
    wire.code = static_cast<int>(absl::StatusCode::kInternal);
    wire.message = IncidentText(status);
  }
  wire.pushback_ms = Pushback(status);

  google::rpc::Status details;
  if (const auto violation = FieldViolationOf(status)) {
    google::rpc::BadRequest bad;
    auto* out = bad.add_field_violations();
    out->set_field(violation->field);
    out->set_description(absl::StrCat("is ", violation->value, ", must be ", violation->limit));
    details.add_details()->PackFrom(bad);
    google::rpc::ErrorInfo info;
    info.set_reason("INVALID_FIELD");
    info.set_domain("vernier");
    (*info.mutable_metadata())["field"] = violation->field;
    (*info.mutable_metadata())["value"] = violation->value;
    (*info.mutable_metadata())["limit"] = violation->limit;
    details.add_details()->PackFrom(info);
  }
  if (const RejectReason reason = RejectReasonOf(status); reason != RejectReason::kNone) {
    google::rpc::ErrorInfo info;
    info.set_reason(absl::AsciiStrToUpper(RejectReasonName(reason)));
    info.set_domain("vernier");
    details.add_details()->PackFrom(info);
  }
  if (wire.pushback_ms.value_or(-1) >= 0) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(*wire.pushback_ms / 1000);
    retry.mutable_retry_delay()->set_nanos(static_cast<int>(*wire.pushback_ms % 1000) * 1000000);
    details.add_details()->PackFrom(retry);
  }
  if (details.details_size() > 0) {
    details.set_code(wire.code);
    details.set_message(wire.message);
    wire.details = details.SerializeAsString();
  }
  return wire;
}

}  // namespace vernier
