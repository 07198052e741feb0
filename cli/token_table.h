// Tokens with their log-probabilities, one a line; and the line on who answered.
//
// Pure, any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/strings/string_view.h"
#include "vernier/v1/common.pb.h"

namespace vernier::cli {

// A token's bytes between quotes: control characters, quotes, backslashes and bytes that are no
// UTF-8 are escaped as in C.
std::string QuotePiece(absl::string_view bytes);

// `position_of` says where the i-th detail stands.
std::string RenderTokens(const google::protobuf::RepeatedPtrField<v1::TokenDetail>& details,
                         const std::function<uint64_t(int)>& position_of);

// "smollm2 fp16 (fp16 weights, source: q4_1 (dequantized))", and ExperimentText.
std::string ServedByText(const v1::ServedBy& served);

// "; experiment nf4-canary, arm nf4, exposure 0190..."; empty where no experiment saw the request.
std::string ExperimentText(const v1::ServedBy& served);

}  // namespace vernier::cli
