#include "server/experiments/feedback_reading.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/status_payload.h"

namespace vernier {
namespace {

constexpr size_t kNumberOffset = 14;  // in the id, big-endian
constexpr size_t kMaxKeyBytes = 64;
constexpr size_t kMaxTextBytes = 4096;

// The event's value as the declared type says, into `out`.
absl::Status ReadValue(const v1::FeedbackEvent& event, const v1::FeedbackMetric& metric,
                       StoredFeedback* out) {
  using Metric = v1::FeedbackMetric;
  using Event = v1::FeedbackEvent;
  const auto wrong = [&](const std::string& wanted) {
    return InvalidField({"value", "a value of another type",
                         absl::StrCat(wanted, ", as metric ", metric.name(), " is declared")});
  };
  switch (metric.type()) {
    case Metric::BOOL:
      if (event.value_case() != Event::kFlag) return wrong("flag");
      out->value = event.flag() ? 1 : 0;
      return absl::OkStatus();
    case Metric::FLOAT:
      if (event.value_case() != Event::kNumber) return wrong("number");
      if (!(event.number() >= metric.low() && event.number() <= metric.high())) {
        return InvalidField({"number", absl::StrCat(event.number()),
                             absl::StrCat("[", metric.low(), ", ", metric.high(), "]")});
      }
      out->value = event.number();
      return absl::OkStatus();
    case Metric::TEXT:
      if (event.value_case() != Event::kText) return wrong("text");
      if (event.text().size() > kMaxTextBytes) {
        return InvalidField({"text", absl::StrCat(event.text().size(), " bytes"),
                             absl::StrCat("at most ", kMaxTextBytes, " bytes")});
      }
      out->text = event.text();
      return absl::OkStatus();
    default: {
      if (event.value_case() != Event::kPreference) return wrong("preference");
      const auto over = ReadExposureId("preference.over", event.preference().over());
      if (!over.ok()) return over.status();
      if (NumberOf(*over) != NumberOf(out->exposure)) {
        return InvalidField({"preference.over", "an exposure of another experiment",
                             "two answers of one experiment"});
      }
      out->over = *over;
      out->value = event.preference().tie() ? 0 : 1;
      return absl::OkStatus();
    }
  }
}

}  // namespace

ExposureId MakeExposureId(int64_t unix_micros, uint32_t experiment, uint64_t random) {
  ExposureId id{};
  const auto millis = static_cast<uint64_t>(unix_micros / 1000);
  for (int i = 0; i < 6; ++i) id[i] = static_cast<uint8_t>(millis >> (40 - 8 * i));
  std::memcpy(id.data() + 6, &random, 8);
  id[6] = static_cast<uint8_t>(0x70 | (id[6] & 0x0f));
  id[8] = static_cast<uint8_t>(0x80 | (id[8] & 0x3f));
  id[kNumberOffset] = static_cast<uint8_t>(experiment >> 8);
  id[kNumberOffset + 1] = static_cast<uint8_t>(experiment);
  return id;
}

uint32_t NumberOf(const ExposureId& id) {
  return uint32_t{id[kNumberOffset]} << 8 | id[kNumberOffset + 1];
}

std::string ExposureIdText(const ExposureId& id) {
  return absl::BytesToHexString({reinterpret_cast<const char*>(id.data()), id.size()});
}

absl::StatusOr<ExposureId> ReadExposureId(const std::string& field, const std::string& text) {
  const bool hex = text.size() == 32 && std::all_of(text.begin(), text.end(), [](char c) {
                     return absl::ascii_isxdigit(static_cast<unsigned char>(c));
                   });
  if (!hex) {
    return InvalidField({field, absl::StrCat(text.size(), " bytes"),
                         "32 hex digits, as served_by.exposure_id had them"});
  }
  const std::string bytes = absl::HexStringToBytes(text);
  ExposureId id{};
  std::copy(bytes.begin(), bytes.end(), id.begin());
  return id;
}

absl::StatusOr<StoredFeedback> ReadFeedback(const v1::FeedbackEvent& event, const ExposureId& id,
                                            const Definition& definition, int64_t unix_micros) {
  StoredFeedback feedback{.experiment = definition.number,
                          .exposure = id,
                          .metric = event.metric(),
                          .source = event.source(),
                          .key = event.idempotency_key(),
                          .unix_micros = unix_micros};
  const auto& metrics = definition.message.metrics();
  const auto metric = std::find_if(metrics.begin(), metrics.end(),
                                   [&](const auto& m) { return m.name() == event.metric(); });
  if (metric == metrics.end()) {
    return InvalidField(
        {"metric", PrintableName(event.metric()),
         absl::StrCat("a metric that experiment ", definition.plan.id, " declares")});
  }
  if (!feedback.source.empty() && !IsName(feedback.source)) {
    return InvalidField(
        {"source", absl::StrCat(feedback.source.size(), " bytes"), "[A-Za-z0-9._-]{0,64}"});
  }
  if (feedback.key.size() > kMaxKeyBytes) {
    return InvalidField(
        {"idempotency_key", absl::StrCat(feedback.key.size(), " bytes"), "at most 64 bytes"});
  }
  if (absl::Status status = ReadValue(event, *metric, &feedback); !status.ok()) return status;
  return feedback;
}

}  // namespace vernier
