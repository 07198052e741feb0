// The GGUF header reader: what PyPI's gguf writes, and files with one broken field each.
#include "engine/checkpoint/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "tests/engine/checkpoint/model_folder.h"
#include "tests/testing/gguf_bytes.h"
#include "tests/testing/test_data.h"

namespace vernier {
namespace {

using ::testing::ElementsAre;
using testing::GgufBytes;
using testing::GgufF32;
using testing::GgufKey;
using testing::GgufString;
using testing::GgufTensorBytes;
using ::testing::HasSubstr;
using testing::Raw;

constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max();

absl::StatusOr<GgufHeader> ReadPath(const std::string& path) {
  const auto file = RandomAccessFile::Open(path);
  if (!file.ok()) return file.status();
  return ReadGgufHeader(**file);
}

absl::StatusOr<GgufHeader> Read(const std::string& bytes) {
  const testing::ModelFolder folder;
  folder.Write("model.gguf", bytes);
  return ReadPath(folder.path() + "/model.gguf");
}

// What the refusal says after the file's path; empty when it is read.
std::string Refusal(const std::string& bytes) {
  const absl::Status status = Read(bytes).status();
  if (status.ok()) return "";
  EXPECT_TRUE(absl::IsInvalidArgument(status) || absl::IsUnimplemented(status)) << status;
  const std::string message(status.message());
  const std::string path = "/model.gguf: ";
  const size_t end = message.find(path);
  EXPECT_NE(end, std::string::npos) << message;
  return end == std::string::npos ? message : message.substr(end + path.size());
}

GgufBytes Good() {
  GgufBytes file;
  file.keys = {GgufKey("a", uint32_t{7}), GgufKey("b", std::string("text"))};
  file.tensors = {GgufF32("x", {4, 2}, std::vector<float>(8, 1)), GgufF32("y", {3}, {1, 2, 3})};
  return file;
}

GgufBytes WithKey(const std::string& key) {
  GgufBytes file = Good();
  file.keys.push_back(key);
  return file;
}

GgufBytes WithTensor(const GgufTensorBytes& tensor) {
  GgufBytes file = Good();
  file.tensors.push_back(tensor);
  return file;
}

TEST(GgufTest, ReadsWhatTheGgufPackageWrites) {
  const auto header = ReadPath(testing::TestDataPath("gguf/types.gguf"));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->version, 3);
  EXPECT_EQ(header->alignment, 32);
  auto value = [&](const char* key) { return header->metadata.at(key); };
  EXPECT_EQ(value("test.uint8"), GgufValue(int64_t{255}));
  EXPECT_EQ(value("test.int8"), GgufValue(int64_t{-128}));
  EXPECT_EQ(value("test.uint16"), GgufValue(int64_t{65535}));
  EXPECT_EQ(value("test.int16"), GgufValue(int64_t{-32768}));
  EXPECT_EQ(value("test.uint32"), GgufValue(int64_t{4294967295}));
  EXPECT_EQ(value("test.int32"), GgufValue(int64_t{-2147483648}));
  EXPECT_EQ(value("test.uint64"), GgufValue(uint64_t{kHuge}));
  EXPECT_EQ(value("test.int64"), GgufValue(std::numeric_limits<int64_t>::min()));
  EXPECT_EQ(value("test.float32"), GgufValue(double{0.1f}));
  EXPECT_EQ(value("test.float64"), GgufValue(0.1));
  EXPECT_EQ(value("test.bool"), GgufValue(true));
  EXPECT_EQ(value("test.string"), GgufValue(std::string("h\xc3\xa9llo")));
  EXPECT_EQ(value("test.strings"), GgufValue(std::vector<std::string>{"a", "", "bc"}));
  EXPECT_EQ(value("test.integers"), GgufValue(std::vector<int64_t>{1, -2, 3}));
  EXPECT_EQ(value("test.floats"), GgufValue(std::vector<double>{0.5, -1.5}));
  EXPECT_EQ(value("test.bools"), GgufValue(std::vector<int64_t>{1, 0}));

  ASSERT_EQ(header->tensors.size(), 14u);
  const GgufTensor& last = header->tensors.back();
  EXPECT_EQ(last.name, "iq4_nl.weight");
  EXPECT_STREQ(last.type->name, "iq4_nl");
  EXPECT_THAT(last.shape, ElementsAre(2, 64));
  EXPECT_EQ(last.offset, 5664);
  EXPECT_EQ(last.bytes, 72);
}

TEST(GgufTest, ReadsVersionTwoAndAnyAlignment) {
  GgufBytes file = Good();
  file.version = 2;
  file.alignment = 256;
  file.keys.push_back(GgufKey("general.alignment", uint32_t{256}));
  const auto header = Read(file.Bytes());
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->version, 2);
  EXPECT_EQ(header->tensors[1].offset - header->tensors[0].offset, 256);
}

TEST(GgufTest, EmptyFileOfNoTensorsIsRead) { EXPECT_EQ(Refusal(GgufBytes().Bytes()), ""); }

TEST(GgufTest, EveryTruncationIsRefused) {
  const std::string whole = Good().Bytes();
  ASSERT_EQ(Refusal(whole), "");
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_NE(Refusal(whole.substr(0, size)), "") << size << " bytes";
  }
}

TEST(GgufTest, BrokenBeginningIsRefused) {
  GgufBytes file = Good();
  file.magic = "GGML";
  EXPECT_EQ(Refusal(file.Bytes()), "does not begin with \"GGUF\"");
  file = Good();
  file.version = 1;
  EXPECT_EQ(Refusal(file.Bytes()), "GGUF version is 1; supported: 2 and 3");
  file.version = 0x03000000;
  EXPECT_EQ(Refusal(file.Bytes()), "GGUF version is 50331648 (big-endian?); supported: 2 and 3");
}

TEST(GgufTest, CountsThatTheFileCannotHoldAreRefused) {
  GgufBytes file = Good();
  file.tensor_count = kHuge;
  EXPECT_EQ(Refusal(file.Bytes()), "tensor count is 18446744073709551615, limit 65536");
  file.tensor_count = 60000;
  EXPECT_THAT(Refusal(file.Bytes()), HasSubstr("tensor count is 60000, the "));
  file = Good();
  file.key_count = uint64_t{1} << 32;
  EXPECT_EQ(Refusal(file.Bytes()), "metadata key count is 4294967296, limit 65536");
  file.key_count = 40000;
  EXPECT_THAT(Refusal(file.Bytes()), HasSubstr("metadata key count is 40000, the "));
}

TEST(GgufTest, BrokenStringsAreRefused) {
  EXPECT_THAT(Refusal(WithKey(Raw(kHuge)).Bytes()),
              HasSubstr("a string of 18446744073709551615 bytes, limit "));
  EXPECT_THAT(Refusal(WithKey(GgufKey("k", 8, Raw(uint64_t{1} << 40))).Bytes()),
              HasSubstr("metadata key \"k\": byte "));
  EXPECT_THAT(Refusal(WithKey(GgufKey(std::string(65536, 'k'), uint32_t{1})).Bytes()),
              HasSubstr("a string of 65536 bytes, limit 65535"));
  EXPECT_THAT(Refusal(WithKey(GgufKey("a\n\x1b[2J", 99, "")).Bytes()),
              HasSubstr("metadata key \"a\\n\\x1b[2J\": the value's type is 99, expected 0 to 12"));
}

TEST(GgufTest, BrokenArraysAreRefused) {
  auto array = [](uint32_t type, uint64_t count, const std::string& elements) {
    return WithKey(GgufKey("k", 9, Raw(type) + Raw(count) + elements)).Bytes();
  };
  EXPECT_EQ(Refusal(array(9, 1, Raw(uint32_t{4}) + Raw(uint64_t{0}))),
            "metadata key \"k\": an array of arrays, expected one level");
  EXPECT_EQ(Refusal(array(13, 1, "")),
            "metadata key \"k\": the elements' type is 13, expected 0 to 12");
  EXPECT_EQ(Refusal(array(0, kHuge, "")),
            "metadata key \"k\": the array's length is 18446744073709551615, limit 4194304");
  EXPECT_THAT(Refusal(array(12, 1000, "")),
              HasSubstr("metadata key \"k\": the array's length is 1000, the "));
  EXPECT_EQ(Refusal(array(10, 1, Raw(kHuge))),
            "metadata key \"k\": an element is 18446744073709551615, expected less than 2^63");
  EXPECT_THAT(Refusal(array(8, 1, Raw(kHuge))), HasSubstr("a string of 18446744073709551615"));
}

// Otherwise small arrays without end would add up.
TEST(GgufTest, ElementsOfAllArraysAreBounded) {
  GgufBytes file;
  const std::string million = Raw(uint32_t{0}) + Raw(uint64_t{1000000}) + std::string(1000000, 'x');
  for (const char* key : {"a", "b", "c", "d", "e"}) file.keys.push_back(GgufKey(key, 9, million));
  EXPECT_EQ(Refusal(file.Bytes()),
            "metadata key \"e\": the array's length is 1000000, limit 194304");
}

TEST(GgufTest, KeysAndNamesAreThereOnce) {
  EXPECT_EQ(Refusal(WithKey(GgufKey("a", uint32_t{8})).Bytes()),
            "metadata key \"a\" is there twice");
  EXPECT_EQ(Refusal(WithTensor(GgufF32("x", {1}, {1})).Bytes()), "tensor \"x\" is there twice");
}

TEST(GgufTest, OddBooleansAndAlignmentsAreRefused) {
  EXPECT_EQ(Refusal(WithKey(GgufKey("k", 7, "\x02")).Bytes()),
            "metadata key \"k\": a boolean is 2, expected 0 or 1");
  for (const uint32_t alignment : {0u, 3u, 48u, 1u << 17, 0x80000000u}) {
    EXPECT_EQ(Refusal(WithKey(GgufKey("general.alignment", alignment)).Bytes()),
              "general.alignment is " + std::to_string(alignment) +
                  ", expected a power of two up to 65536");
  }
  EXPECT_EQ(Refusal(WithKey(GgufKey("general.alignment", 32.0f)).Bytes()),
            "general.alignment is not an integer");
}

TEST(GgufTest, BrokenShapesAreRefused) {
  EXPECT_EQ(Refusal(WithTensor({"z", {}}).Bytes()),
            "tensor \"z\": the number of dimensions is 0, expected 1 to 4");
  EXPECT_EQ(Refusal(WithTensor({"z", {1, 1, 1, 1, 1}}).Bytes()),
            "tensor \"z\": the number of dimensions is 5, expected 1 to 4");
  EXPECT_EQ(Refusal(WithTensor({"z", {4, 0}}).Bytes()),
            "tensor \"z\": dimension 1 is 0, expected 1 to 2^63 - 1");
  EXPECT_EQ(Refusal(WithTensor({"z", {kHuge}}).Bytes()),
            "tensor \"z\": dimension 0 is 18446744073709551615, expected 1 to 2^63 - 1");
  // 4194305^2 values of four bytes: a product that wraps in 32 bits and, with one more, in 64.
  EXPECT_THAT(Refusal(WithTensor({"z", {4194305, 4194305}}).Bytes()),
              HasSubstr("tensor \"z\": 70368777732100 bytes from offset "));
  EXPECT_EQ(Refusal(WithTensor({"z", {4194305, 4194305, 4194305}}).Bytes()),
            "tensor \"z\": dimension 2 is 4194305, which makes 2^63 values or more");
  EXPECT_EQ(Refusal(WithTensor({"z", {uint64_t{1} << 62}}).Bytes()),
            "tensor \"z\": 4611686018427387904 values of f32 make 2^63 bytes or more");
  EXPECT_EQ(Refusal(WithTensor({"z", {33}, 3}).Bytes()),
            "tensor \"z\": dimension 0 is 33, expected a multiple of 32 for q4_1");
  EXPECT_EQ(Refusal(WithTensor({"z", {128}, 12}).Bytes()),
            "tensor \"z\": dimension 0 is 128, expected a multiple of 256 for q4_k");
}

TEST(GgufTest, OtherTypesAreRefusedByName) {
  EXPECT_EQ(Refusal(WithTensor({"z", {256}, 23}).Bytes()),
            "tensor \"z\": its type is iq4_xs; supported: f32, f16, q4_0, q4_1, q5_0, q5_1, q8_0, "
            "q2_k, q3_k, q4_k, q5_k, q6_k, iq4_nl, bf16");
  EXPECT_THAT(Refusal(WithTensor({"z", {256}, 77}).Bytes()),
              HasSubstr("tensor \"z\": its type is type 77; supported: "));
}

TEST(GgufTest, WhatFollowsTheLastTensorIsNotRead) {
  const std::string bytes = WithTensor(GgufF32("z", {2}, {1, 2})).Bytes();
  for (const size_t more : {size_t{1}, size_t{24}, size_t{5000}}) {
    EXPECT_EQ(Refusal(bytes + std::string(more, '\xff')), "") << more;
  }
}

TEST(GgufTest, OffsetsLieInTheFile) {
  GgufTensorBytes tensor = GgufF32("z", {2}, {1, 2});
  tensor.offset = 4;
  EXPECT_EQ(Refusal(WithTensor(tensor).Bytes()),
            "tensor \"z\": the offset is 4, expected a multiple of 32");
  tensor.offset = 0;
  EXPECT_THAT(Refusal(WithTensor(tensor).Bytes()), HasSubstr(" overlap at byte "));
  tensor.offset = kHuge - 31;
  EXPECT_THAT(Refusal(WithTensor(tensor).Bytes()),
              HasSubstr("tensor \"z\": the offset is 18446744073709551584, expected less than"));
  tensor.offset = 96;
  EXPECT_THAT(Refusal(WithTensor(tensor).Bytes()),
              HasSubstr("tensor \"z\": 8 bytes from offset 96 of the data at byte "));
  EXPECT_THAT(Refusal(WithTensor({std::string(65, 'n'), {1}}).Bytes()),
              HasSubstr("a string of 65 bytes, limit 64"));
}

}  // namespace
}  // namespace vernier
