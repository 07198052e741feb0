// tokenizer.json's normalizer, pre_tokenizer and decoder as TokenizerParts.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/text/json_value.h"
#include "engine/text/tokenizer_parts.h"

namespace vernier {

// Each reads its member of tokenizer.json. INVALID_ARGUMENT for a broken shape, UNIMPLEMENTED with
// the name of a step that is not supported. Together they say whether the model is over bytes:
// `parts->model` becomes kByteLevelBpe where the pre-tokenizer has ByteLevel.
absl::Status ReadNormalizer(const Json& tokenizer, TokenizerParts* parts);
// Behind the model's own members.
absl::Status ReadPreTokenizer(const Json& tokenizer, TokenizerParts* parts);
// The members that Metaspace has as a pre-tokenizer and as a decoder.
absl::StatusOr<Metaspace> ReadMetaspaceMembers(const Json& json, absl::string_view path);
// Behind ReadPreTokenizer.
absl::Status ReadDecoder(const Json& tokenizer, TokenizerParts* parts);

}  // namespace vernier
