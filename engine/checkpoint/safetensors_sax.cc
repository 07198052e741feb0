#include "engine/checkpoint/safetensors_sax.h"

#include "absl/strings/str_cat.h"

namespace vernier {
namespace {

constexpr size_t kMaxDims = 8;
constexpr size_t kShownBytes = 80;

std::string Shown(const std::string& name) {
  return name.size() <= kShownBytes ? name : name.substr(0, kShownBytes) + "...";
}

}  // namespace

bool SafetensorsSax::Refuse(const std::string& what) {
  error = state_ == State::kStart || state_ == State::kTop || state_ == State::kEnd ||
                  state_ == State::kMetadata || entries.empty()
              ? absl::StrCat("the header ", what)
              : absl::StrCat("tensor ", Shown(entries.back().name), " ", what);
  return false;
}

bool SafetensorsSax::WrongKind(const char* kind) {
  switch (state_) {
    case State::kStart:
      return Refuse(absl::StrCat("is ", kind, ", expected an object"));
    case State::kTop:
      return Refuse(absl::StrCat("has ", kind, " where an object was expected"));
    case State::kMetadata:
      return Refuse(absl::StrCat("has ", kind, " in __metadata__, expected strings"));
    case State::kType:
      return Refuse(absl::StrCat("has ", kind, " as its dtype, expected a string"));
    case State::kShape:
      return Refuse(absl::StrCat("has ", kind, " in its shape, expected whole numbers from 0"));
    case State::kOffsets:
      return Refuse(absl::StrCat("has ", kind, " in its data_offsets, expected two whole numbers"));
    case State::kTensor:
    case State::kEnd:
      return Refuse(absl::StrCat("has ", kind, " where none was expected"));
  }
  return false;
}

bool SafetensorsSax::null() { return WrongKind("null"); }
bool SafetensorsSax::boolean(bool) { return WrongKind("a boolean"); }
bool SafetensorsSax::number_integer(number_integer_t) { return WrongKind("a negative number"); }
bool SafetensorsSax::number_float(number_float_t, const string_t&) {
  return WrongKind("a fraction");
}
bool SafetensorsSax::binary(binary_t&) { return WrongKind("binary data"); }

bool SafetensorsSax::number_unsigned(number_unsigned_t value) {
  if (!in_array_) return WrongKind("a number");
  if (state_ == State::kShape) {
    std::vector<uint64_t>& shape = entries.back().shape;
    if (shape.size() == kMaxDims) return Refuse(absl::StrCat("has over ", kMaxDims, " dimensions"));
    shape.push_back(value);
    return true;
  }
  if (num_offsets_ == 2) return Refuse("has over two data_offsets");
  entries.back().offsets[num_offsets_++] = value;
  return true;
}

bool SafetensorsSax::string(string_t& value) {
  if (state_ == State::kMetadata && seen_ == kSawAll) return true;
  if (state_ != State::kType) return WrongKind("a string");
  entries.back().type = value;
  state_ = State::kTensor;
  return true;
}

bool SafetensorsSax::start_object(size_t) {
  if (state_ == State::kStart) {
    state_ = State::kTop;
    return true;
  }
  // After a key at the top, which has chosen between the two; seen_ tells a value from its inside.
  if (state_ == State::kMetadata && !in_array_ && seen_ == 0) {
    seen_ = kSawAll;
    return true;
  }
  if (state_ == State::kTensor && seen_ == 0 && !in_array_) return true;
  return WrongKind("an object");
}

bool SafetensorsSax::key(string_t& value) {
  if (state_ == State::kMetadata) return true;
  if (state_ == State::kTop) {
    seen_ = 0;
    num_offsets_ = 0;
    state_ = value == "__metadata__" ? State::kMetadata : State::kTensor;
    if (state_ == State::kTensor) entries.push_back({.name = value});
    return true;
  }
  const struct {
    const char* name;
    Seen bit;
    State state;
  } fields[] = {{"dtype", kSawType, State::kType},
                {"shape", kSawShape, State::kShape},
                {"data_offsets", kSawOffsets, State::kOffsets}};
  for (const auto& field : fields) {
    if (value != field.name) continue;
    if ((seen_ & field.bit) != 0) return Refuse(absl::StrCat("has ", field.name, " twice"));
    seen_ |= field.bit;
    state_ = field.state;
    return true;
  }
  return Refuse(absl::StrCat("has an unknown key ", Shown(value)));
}

bool SafetensorsSax::end_object() {
  if (state_ == State::kTop) {
    state_ = State::kEnd;
    return true;
  }
  if (state_ == State::kTensor && (seen_ != kSawAll || num_offsets_ != 2)) {
    return Refuse("lacks one of dtype, shape and two data_offsets");
  }
  state_ = State::kTop;
  return true;
}

bool SafetensorsSax::start_array(size_t) {
  if (in_array_ || (state_ != State::kShape && state_ != State::kOffsets)) {
    return WrongKind("an array");
  }
  in_array_ = true;
  return true;
}

bool SafetensorsSax::end_array() {
  in_array_ = false;
  state_ = State::kTensor;
  return true;
}

bool SafetensorsSax::parse_error(size_t position, const std::string&,
                                 const nlohmann::detail::exception&) {
  error = absl::StrCat("the header is not JSON at byte ", position);
  return false;
}

}  // namespace vernier
