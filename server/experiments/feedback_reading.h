// The ids that exposures have outside, and what a Feedback event says of one.
//
// Pure functions, any thread.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "server/experiments/definition.h"
#include "server/experiments/store.h"
#include "vernier/v1/inference.pb.h"

namespace vernier {

inline constexpr uint32_t kMaxExperimentNumber = UINT16_MAX;  // as an id holds it

// A UUIDv7 (RFC 9562) whose last two bytes are the experiment's number, so that feedback finds it.
ExposureId MakeExposureId(int64_t unix_micros, uint32_t experiment, uint64_t random);
uint32_t NumberOf(const ExposureId& id);
// 32 hex digits, and back; InvalidField names `field`.
std::string ExposureIdText(const ExposureId& id);
absl::StatusOr<ExposureId> ReadExposureId(const std::string& field, const std::string& text);

// The event as it is stored, with the value as the experiment declares its metric. InvalidField.
absl::StatusOr<StoredFeedback> ReadFeedback(const v1::FeedbackEvent& event, const ExposureId& id,
                                            const Definition& definition, int64_t unix_micros);

}  // namespace vernier
