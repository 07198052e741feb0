// Decoders of GGML's tensor types against values that PyPI's gguf makes of the same bytes.
#include "engine/checkpoint/dequantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "tests/testing/test_data.h"

namespace vernier {
namespace {

using ::testing::HasSubstr;

nlohmann::json Recorded() { return testing::ReadJson(testing::TestDataPath("gguf/blocks.json")); }

std::vector<uint32_t> BitsOf(const std::string& bytes) {
  std::vector<uint32_t> bits(bytes.size() / sizeof(uint32_t));
  std::memcpy(bits.data(), bytes.data(), bits.size() * sizeof(uint32_t));
  return bits;
}

TEST(DequantizeTest, EveryTypeGivesTheRecordedBits) {
  const nlohmann::json vectors = Recorded()["vectors"];
  ASSERT_EQ(vectors.size(), 14u);
  for (const auto& vector : vectors) {
    SCOPED_TRACE(vector["type"]);
    const auto type = FindGgmlType(vector["id"].get<uint32_t>());
    ASSERT_TRUE(type.ok()) << type.status();
    EXPECT_EQ((*type)->name, vector["type"].get<std::string>());
    const std::string bytes = absl::HexStringToBytes(vector["bytes"].get<std::string>());
    const int64_t rows = vector["rows"], cols = vector["cols"];
    ASSERT_EQ(static_cast<int64_t>(bytes.size()), rows * (*type)->RowBytes(cols));
    // One byte off, since nothing aligns a tensor in memory.
    std::vector<uint8_t> shifted(bytes.size() + 1);
    std::memcpy(shifted.data() + 1, bytes.data(), bytes.size());
    std::vector<float> values(rows * cols);
    (*type)->decode(shifted.data() + 1, rows * cols / (*type)->block_values, values.data());
    std::vector<uint32_t> bits(values.size());
    std::memcpy(bits.data(), values.data(), bits.size() * sizeof(uint32_t));
    EXPECT_EQ(bits, BitsOf(absl::HexStringToBytes(vector["values"].get<std::string>())));
  }
}

TEST(DequantizeTest, EveryTypeOfGgmlHasItsName) {
  const nlohmann::json types = Recorded()["types"];
  ASSERT_GT(types.size(), 30u);
  for (const auto& type : types) {
    EXPECT_EQ(GgmlTypeName(type[0].get<uint32_t>()), type[1].get<std::string>());
  }
}

TEST(DequantizeTest, OtherTypesAreRefusedByName) {
  const absl::Status known = FindGgmlType(23).status();
  EXPECT_TRUE(absl::IsUnimplemented(known));
  EXPECT_EQ(known.message(),
            "its type is iq4_xs; supported: f32, f16, q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k, "
            "q4_k, q5_k, q6_k, iq4_nl, bf16");
  for (const uint32_t id : {4u, 31u, 99u, 4294967295u}) {
    const absl::Status unknown = FindGgmlType(id).status();
    EXPECT_TRUE(absl::IsUnimplemented(unknown)) << id;
    EXPECT_THAT(std::string(unknown.message()), HasSubstr("type " + std::to_string(id)));
  }
}

}  // namespace
}  // namespace vernier
