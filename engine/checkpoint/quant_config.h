// What a Hugging Face config.json says of how its weights are quantized: `quantization_config`.
//
// The keys are those of transformers' quantizers (bitsandbytes, gptq, awq) and of the
// compressed-tensors package. Lists of what was left unquantized (llm_int8_skip_modules,
// modules_to_not_convert, ignore) are not read: a tensor that a file has unpacked is read unpacked.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/checkpoint/json_fields.h"

namespace vernier {

enum class QuantMethod : uint8_t { kNone, kBitsAndBytes, kGptq, kAwq, kCompressedTensors };

struct QuantSettings {
  QuantMethod method = QuantMethod::kNone;
  // Of integer codes; bitsandbytes says them tensor by tensor.
  int bits = 0;             // 4 or 8
  int64_t group = 0;        // consecutive inputs that share a scale; 0: all of them
  bool reordered = false;   // groups are of any inputs, so that each tensor must say which
  bool less_one = false;    // zero points are stored less one (GPTQ's first format)
  bool zero_points = true;  // each group has one; otherwise it is half of the codes
};

// "bitsandbytes", as quant_method has it.
absl::string_view QuantMethodName(QuantMethod method);

// Of the whole config.json; QuantMethod::kNone without the key. INVALID_ARGUMENT and UNIMPLEMENTED
// naming the file, the key, the value and what was expected.
absl::StatusOr<QuantSettings> ReadQuantSettings(const JsonFields& config);

}  // namespace vernier
