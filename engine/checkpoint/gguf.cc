#include "engine/checkpoint/gguf.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <set>
#include <type_traits>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/checkpoint/gguf_cursor.h"

namespace vernier {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF's numbers are little-endian");

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr int64_t kMaxHeaderBytes = 100 << 20;
constexpr int64_t kMaxKeys = 1 << 16;
constexpr int64_t kMaxTensors = 1 << 16;
// Of all arrays together: what one costs in memory beyond its bytes is at most a std::string.
constexpr int64_t kMaxElements = 1 << 22;
constexpr int64_t kMaxKeyBytes = 65535;  // the format's own
constexpr int64_t kMaxNameBytes = 64;    // the format's own
constexpr uint32_t kMaxDimensions = 4;   // the format's own
constexpr int64_t kDefaultAlignment = 32;
constexpr int64_t kMaxAlignment = 1 << 16;

enum ValueType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};

// Bytes of a value in the file, at least; 0 for a type that does not exist.
int64_t MinimumBytes(uint32_t type) {
  static constexpr int64_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};
  return type < std::size(kBytes) ? kBytes[type] : 0;
}

// As it may stand in a message.
std::string Shown(absl::string_view name) {
  return absl::StrCat("\"", absl::CHexEscape(name.substr(0, 80)), "\"");
}

absl::Status Within(const std::string& where, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(where, ": ", status.message()));
}

absl::Status Wrong(absl::string_view what, uint64_t value, absl::string_view expected) {
  return absl::InvalidArgumentError(absl::StrCat(what, " is ", value, ", expected ", expected));
}

class HeaderReader {
 public:
  explicit HeaderReader(const RandomAccessFile& file) : file_(file), in_(file, kMaxHeaderBytes) {}

  absl::StatusOr<GgufHeader> Read() {
    int64_t keys = 0, tensors = 0;
    if (absl::Status status = ReadCounts(&keys, &tensors); !status.ok()) return status;
    for (int64_t i = 0; i < keys; ++i) {
      if (absl::Status status = ReadKey(i); !status.ok()) return status;
    }
    if (absl::Status status = ReadAlignment(); !status.ok()) return status;
    header_.tensors.reserve(tensors);
    for (int64_t i = 0; i < tensors; ++i) {
      if (absl::Status status = ReadTensor(i); !status.ok()) return status;
    }
    if (absl::Status status = PlaceTensors(); !status.ok()) return status;
    return std::move(header_);
  }

 private:
  absl::Status ReadCounts(int64_t* keys, int64_t* tensors);
  absl::Status ReadKey(int64_t index);
  absl::StatusOr<GgufValue> ReadValue(uint32_t type);
  absl::StatusOr<GgufValue> ReadArray();
  absl::Status ReadAlignment();
  absl::Status ReadTensor(int64_t index);
  absl::Status ReadShape(GgufTensor* tensor);
  absl::Status PlaceTensors();

  // A count from the file of things that take at least `minimum_bytes` each.
  absl::StatusOr<int64_t> ReadCount(absl::string_view what, int64_t max, int64_t minimum_bytes);
  int64_t ReadInteger(uint32_t type);
  double ReadFloat(uint32_t type);

  const RandomAccessFile& file_;
  GgufCursor in_;
  GgufHeader header_;
  int64_t elements_ = 0;  // of arrays so far
  std::set<std::string, std::less<>> names_;
};

absl::StatusOr<int64_t> HeaderReader::ReadCount(absl::string_view what, int64_t max,
                                                int64_t minimum_bytes) {
  const auto count = in_.Number<uint64_t>();
  if (!in_.ok()) return Within(std::string(what), in_.status());
  if (count > static_cast<uint64_t>(max)) {
    return absl::InvalidArgumentError(absl::StrCat(what, " is ", count, ", limit ", max));
  }
  const int64_t room = in_.remaining() / minimum_bytes;
  if (count > static_cast<uint64_t>(room)) {
    return absl::InvalidArgumentError(absl::StrCat(what, " is ", count, ", the ", in_.remaining(),
                                                   " bytes left have room for ", room));
  }
  return static_cast<int64_t>(count);
}

absl::Status HeaderReader::ReadCounts(int64_t* keys, int64_t* tensors) {
  const auto magic = in_.Number<uint32_t>();
  const auto version = in_.Number<uint32_t>();
  if (!in_.ok()) return in_.status();
  if (magic != kMagic) {
    return absl::InvalidArgumentError("does not begin with \"GGUF\"");
  }
  if (version != 2 && version != 3) {
    return absl::UnimplementedError(absl::StrCat("GGUF version is ", version,
                                                 (version & 0xffff) == 0 ? " (big-endian?)" : "",
                                                 "; supported: 2 and 3"));
  }
  header_.version = version;
  // A tensor: name, number of dimensions, one dimension, type, offset. A key: name, type, value.
  const absl::StatusOr<int64_t> tensor_count =
      ReadCount("tensor count", kMaxTensors, 8 + 4 + 8 + 4 + 8);
  if (!tensor_count.ok()) return tensor_count.status();
  const absl::StatusOr<int64_t> key_count = ReadCount("metadata key count", kMaxKeys, 8 + 4 + 1);
  if (!key_count.ok()) return key_count.status();
  *tensors = *tensor_count;
  *keys = *key_count;
  return absl::OkStatus();
}

absl::Status HeaderReader::ReadKey(int64_t index) {
  std::string key = in_.String(kMaxKeyBytes);
  if (!in_.ok()) return Within(absl::StrCat("metadata key ", index), in_.status());
  const std::string where = absl::StrCat("metadata key ", Shown(key));
  const auto type = in_.Number<uint32_t>();
  if (!in_.ok()) return Within(where, in_.status());
  absl::StatusOr<GgufValue> value = ReadValue(type);
  if (!value.ok()) return Within(where, value.status());
  if (!header_.metadata.emplace(std::move(key), *std::move(value)).second) {
    return absl::InvalidArgumentError(absl::StrCat(where, " is there twice"));
  }
  return absl::OkStatus();
}

int64_t HeaderReader::ReadInteger(uint32_t type) {
  switch (type) {
    case kUint8:
      return in_.Number<uint8_t>();
    case kInt8:
      return in_.Number<int8_t>();
    case kUint16:
      return in_.Number<uint16_t>();
    case kInt16:
      return in_.Number<int16_t>();
    case kUint32:
      return in_.Number<uint32_t>();
    case kInt32:
      return in_.Number<int32_t>();
    default:
      return in_.Number<int64_t>();
  }
}

double HeaderReader::ReadFloat(uint32_t type) {
  return type == kFloat32 ? in_.Number<float>() : in_.Number<double>();
}

absl::StatusOr<GgufValue> HeaderReader::ReadValue(uint32_t type) {
  GgufValue value;
  switch (type) {
    case kBool: {
      const auto byte = in_.Number<uint8_t>();
      if (in_.ok() && byte > 1) return Wrong("a boolean", byte, "0 or 1");
      value = byte == 1;
      break;
    }
    case kString:
      value = in_.String(in_.remaining());
      break;
    case kArray:
      return ReadArray();
    case kUint64: {
      const auto number = in_.Number<uint64_t>();
      if (std::in_range<int64_t>(number)) {
        value = static_cast<int64_t>(number);
      } else {
        value = number;
      }
      break;
    }
    case kFloat32:
    case kFloat64:
      value = ReadFloat(type);
      break;
    default:
      if (MinimumBytes(type) == 0) return Wrong("the value's type", type, "0 to 12");
      value = ReadInteger(type);
  }
  if (!in_.ok()) return in_.status();
  return value;
}

absl::StatusOr<GgufValue> HeaderReader::ReadArray() {
  const auto type = in_.Number<uint32_t>();
  if (!in_.ok()) return in_.status();
  if (type == kArray) return absl::InvalidArgumentError("an array of arrays, expected one level");
  if (MinimumBytes(type) == 0) return Wrong("the elements' type", type, "0 to 12");
  const absl::StatusOr<int64_t> count =
      ReadCount("the array's length", kMaxElements - elements_, MinimumBytes(type));
  if (!count.ok()) return count.status();
  elements_ += *count;
  GgufValue value;
  auto fill = [&](auto read) {
    std::vector<decltype(read())> array;
    array.reserve(*count);
    for (int64_t i = 0; i < *count && in_.ok(); ++i) array.push_back(read());
    value = std::move(array);
  };
  if (type == kString) {
    fill([&] { return in_.String(in_.remaining()); });
  } else if (type == kFloat32 || type == kFloat64) {
    fill([&] { return ReadFloat(type); });
  } else {
    fill([&] { return ReadInteger(type == kBool ? kUint8 : type); });
  }
  if (!in_.ok()) return in_.status();
  if (type == kUint64) {
    for (const int64_t number : std::get<std::vector<int64_t>>(value)) {
      if (number < 0) return Wrong("an element", static_cast<uint64_t>(number), "less than 2^63");
    }
  }
  return value;
}

absl::Status HeaderReader::ReadAlignment() {
  header_.alignment = kDefaultAlignment;
  const auto found = header_.metadata.find("general.alignment");
  if (found == header_.metadata.end()) return absl::OkStatus();
  const auto* alignment = std::get_if<int64_t>(&found->second);
  if (alignment == nullptr) {
    return absl::InvalidArgumentError("general.alignment is not an integer");
  }
  if (*alignment < 1 || *alignment > kMaxAlignment ||
      !std::has_single_bit(static_cast<uint64_t>(*alignment))) {
    return absl::InvalidArgumentError(absl::StrCat(
        "general.alignment is ", *alignment, ", expected a power of two up to ", kMaxAlignment));
  }
  header_.alignment = *alignment;
  return absl::OkStatus();
}

// Dimensions, type and size. The product of the dimensions is at most 2^63 - 1 values, and so are
// the bytes, which PlaceTensors compares with the file.
absl::Status HeaderReader::ReadShape(GgufTensor* tensor) {
  const auto dimensions = in_.Number<uint32_t>();
  if (!in_.ok()) return in_.status();
  if (dimensions < 1 || dimensions > kMaxDimensions) {
    return Wrong("the number of dimensions", dimensions, absl::StrCat("1 to ", kMaxDimensions));
  }
  int64_t values = 1;
  for (uint32_t i = 0; i < dimensions; ++i) {
    const auto size = in_.Number<uint64_t>();
    if (!in_.ok()) return in_.status();
    if (size < 1 || !std::in_range<int64_t>(size)) {
      return Wrong(absl::StrCat("dimension ", i), size, "1 to 2^63 - 1");
    }
    if (__builtin_mul_overflow(values, static_cast<int64_t>(size), &values)) {
      return absl::InvalidArgumentError(
          absl::StrCat("dimension ", i, " is ", size, ", which makes 2^63 values or more"));
    }
    tensor->shape.push_back(static_cast<int64_t>(size));
  }
  const absl::StatusOr<const GgmlType*> type = FindGgmlType(in_.Number<uint32_t>());
  if (!in_.ok()) return in_.status();
  if (!type.ok()) return type.status();
  tensor->type = *type;
  if (tensor->shape[0] % tensor->type->block_values != 0) {
    return Wrong(
        "dimension 0", static_cast<uint64_t>(tensor->shape[0]),
        absl::StrCat("a multiple of ", tensor->type->block_values, " for ", tensor->type->name));
  }
  if (__builtin_mul_overflow(values / tensor->type->block_values,
                             int64_t{tensor->type->block_bytes}, &tensor->bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat(values, " values of ", tensor->type->name, " make 2^63 bytes or more"));
  }
  std::reverse(tensor->shape.begin(), tensor->shape.end());
  return absl::OkStatus();
}

absl::Status HeaderReader::ReadTensor(int64_t index) {
  GgufTensor tensor;
  tensor.name = in_.String(kMaxNameBytes);
  if (!in_.ok()) return Within(absl::StrCat("tensor ", index), in_.status());
  const std::string where = absl::StrCat("tensor ", Shown(tensor.name));
  if (absl::Status status = ReadShape(&tensor); !status.ok()) return Within(where, status);
  const auto offset = in_.Number<uint64_t>();
  if (!in_.ok()) return Within(where, in_.status());
  if (offset % static_cast<uint64_t>(header_.alignment) != 0) {
    return Within(where,
                  Wrong("the offset", offset, absl::StrCat("a multiple of ", header_.alignment)));
  }
  if (offset > static_cast<uint64_t>(file_.size())) {
    return Within(where, Wrong("the offset", offset,
                               absl::StrCat("less than the file's ", file_.size(), " bytes")));
  }
  tensor.offset = static_cast<int64_t>(offset);
  if (!names_.insert(tensor.name).second) {
    return absl::InvalidArgumentError(absl::StrCat(where, " is there twice"));
  }
  header_.tensors.push_back(std::move(tensor));
  return absl::OkStatus();
}

// Offsets from the data's begin become offsets in the file; none may leave it or overlap.
absl::Status HeaderReader::PlaceTensors() {
  const int64_t data =
      (in_.offset() + header_.alignment - 1) / header_.alignment * header_.alignment;
  std::vector<const GgufTensor*> in_order;
  for (GgufTensor& tensor : header_.tensors) {
    if (data > file_.size() || tensor.offset > file_.size() - data ||
        tensor.bytes > file_.size() - data - tensor.offset) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor ", Shown(tensor.name), ": ", tensor.bytes, " bytes from offset ", tensor.offset,
          " of the data at byte ", data, ", the file has ", file_.size()));
    }
    tensor.offset += data;
    in_order.push_back(&tensor);
  }
  std::sort(in_order.begin(), in_order.end(),
            [](const GgufTensor* a, const GgufTensor* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < in_order.size(); ++i) {
    const GgufTensor& before = *in_order[i - 1];
    if (before.offset + before.bytes > in_order[i]->offset) {
      return absl::InvalidArgumentError(absl::StrCat("tensors ", Shown(before.name), " and ",
                                                     Shown(in_order[i]->name), " overlap at byte ",
                                                     in_order[i]->offset));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<GgufHeader> ReadGgufHeader(const RandomAccessFile& file) {
  absl::StatusOr<GgufHeader> header = HeaderReader(file).Read();
  if (!header.ok()) return Within(file.path(), header.status());
  return header;
}

}  // namespace vernier
