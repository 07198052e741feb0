// Headers of safetensors files: what is read, and that each broken one is refused with its reason.
#include "engine/checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <span>
#include <string>
#include <vector>

#include "tests/engine/checkpoint/model_folder.h"

namespace vernier {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ModelFolder;
using testing::SafetensorsBytes;

absl::StatusOr<std::vector<SafetensorsEntry>> Read(const std::string& bytes) {
  const ModelFolder folder;
  folder.Write("file", bytes);
  const auto file = RandomAccessFile::Open(folder.path() + "/file");
  if (!file.ok()) return file.status();
  return ReadSafetensorsHeader(**file);
}

std::string Entry(const std::string& name, const std::string& type, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + type + "\",\"shape\":" + shape +
         ",\"data_offsets\":" + offsets + "}";
}

TEST(SafetensorsTest, EntriesComeInOrderOfOffset) {
  const std::string header =
      "{\"__metadata__\":{\"format\":\"pt\"}," + Entry("b", "BF16", "[2,3]", "[4,16]") + "," +
      Entry("a", "F32", "[]", "[0,4]") + "," + Entry("none", "F64", "[0,7]", "[4,4]") + "}  ";
  const auto entries = Read(SafetensorsBytes(header, 16));
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 3u);
  const int64_t data = 8 + static_cast<int64_t>(header.size());
  EXPECT_EQ((*entries)[0].name, "a");
  EXPECT_EQ((*entries)[0].offset, data);
  EXPECT_EQ((*entries)[1].name, "none");
  EXPECT_EQ((*entries)[2].name, "b");
  EXPECT_EQ((*entries)[2].type, "BF16");
  EXPECT_THAT((*entries)[2].shape, ElementsAre(2, 3));
  EXPECT_EQ((*entries)[2].offset, data + 4);
  EXPECT_EQ((*entries)[2].bytes, 12);
}

struct Hostile {
  const char* name;
  std::string header;
  size_t data_bytes;
  const char* says;
};

void ExpectRefused(std::span<const Hostile> cases) {
  for (const Hostile& hostile : cases) {
    SCOPED_TRACE(hostile.name);
    const auto entries = Read(SafetensorsBytes(hostile.header, hostile.data_bytes));
    EXPECT_TRUE(absl::IsInvalidArgument(entries.status())) << entries.status();
    EXPECT_THAT(std::string(entries.status().message()), HasSubstr(hostile.says));
    EXPECT_THAT(std::string(entries.status().message()), HasSubstr("/file: "));
  }
}

TEST(SafetensorsTest, F47BrokenHeadersAreRefusedWithTheirReason) {
  const std::string good = Entry("a", "F32", "[2]", "[0,8]");
  const Hostile cases[] = {
      {"no JSON", "{\"a\":", 0, "the header is not JSON at byte"},
      {"empty", "", 0, "the header is not JSON at byte"},
      {"two values", "{}{}", 0, "the header is not JSON"},
      {"an array", "[]", 0, "the header is an array, expected an object"},
      {"a number", "5", 0, "the header is a number, expected an object"},
      {"deep", std::string(1 << 20, '['), 0, "expected an object"},
      {"metadata a string", "{\"__metadata__\":\"x\"," + good + "}", 8, "__metadata__"},
      {"metadata nested", "{\"__metadata__\":{\"a\":{}}}", 0, "__metadata__, expected strings"},
      {"tensor no object", "{\"a\":[]}", 0, "tensor a has an array where none was expected"},
      {"tensor null", "{\"a\":null}", 0, "tensor a has null"},
      {"lacking", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "tensor a lacks one of"},
      {"one offset", "{" + Entry("a", "F32", "[2]", "[0]") + "}", 8, "tensor a lacks one of"},
      {"three offsets", "{" + Entry("a", "F32", "[2]", "[0,8,8]") + "}", 8,
       "over two data_offsets"},
      {"unknown key", "{\"a\":{\"type\":1}}", 0, "tensor a has an unknown key type"},
      {"a key twice", "{\"a\":{\"shape\":[1],\"shape\":[1]}}", 0, "tensor a has shape twice"},
      {"negative", "{" + Entry("a", "F32", "[-2]", "[0,8]") + "}", 8,
       "a negative number in its shape"},
      {"fraction", "{" + Entry("a", "F32", "[2.5]", "[0,8]") + "}", 8, "a fraction in its shape"},
      {"past 64 bits", "{" + Entry("a", "F32", "[99999999999999999999]", "[0,8]") + "}", 8,
       "a fraction in its shape"},
      {"nested shape", "{" + Entry("a", "F32", "[[2]]", "[0,8]") + "}", 8, "an array in its shape"},
      {"shape a number", "{" + Entry("a", "F32", "2", "[0,8]") + "}", 8, "a number in its shape"},
      {"dimensions", "{" + Entry("a", "F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]") + "}", 8,
       "over 8 dimensions"},
      {"dtype", "{" + Entry("a", "F31", "[2]", "[0,8]") + "}", 8, "tensor a has dtype F31"},
      {"dtype a list", "{\"a\":{\"dtype\":[\"F32\"]}}", 8, "an array as its dtype"},
      {"overflow", "{" + Entry("a", "F32", "[4294967296,4294967296]", "[0,8]") + "}", 8,
       "more than 64 bits can count"},
      {"wrap to size", "{" + Entry("a", "F32", "[9223372036854775809,2]", "[0,8]") + "}", 8,
       "more than 64 bits can count"},
      {"huge and none", "{" + Entry("a", "F32", "[0,9223372036854775808]", "[0,0]") + "}", 0,
       "a dimension of 9223372036854775808"},
      {"half a byte", "{" + Entry("a", "F4", "[1]", "[0,1]") + "}", 1, "a whole byte"},
      {"shape against bytes", "{" + Entry("a", "F32", "[3]", "[0,8]") + "}", 8,
       "is F32 [3], which is 12 bytes, but its data_offsets [0, 8] hold 8"},
      {"backwards", "{" + Entry("a", "F32", "[2]", "[8,0]") + "}", 8, "data_offsets [8, 0]"},
      {"past the end", "{" + Entry("a", "F32", "[2]", "[0,8]") + "}", 7,
       "data_offsets [0, 8], expected a range within the 7 bytes"},
      {"wrapped offset",
       "{" + Entry("a", "F32", "[2]", "[18446744073709551608,18446744073709551615]") + "}", 8,
       "expected a range within the 8 bytes"},
      {"twice", "{" + good + "," + Entry("a", "F32", "[1]", "[8,12]") + "}", 12,
       "tensor a is there twice"},
      {"overlap", "{" + good + "," + Entry("b", "F32", "[2]", "[4,12]") + "}", 12,
       "tensor b begins at byte 4 of the data, expected 8: it overlaps"},
      {"the same bytes", "{" + good + "," + Entry("b", "F32", "[2]", "[0,8]") + "}", 8, "overlaps"},
      {"gap", "{" + good + "," + Entry("b", "F32", "[1]", "[12,16]") + "}", 16,
       "there is a gap before it"},
      {"trailing bytes", "{" + good + "}", 9, "end at byte 8 of the data, which has 9 bytes"},
  };
  ExpectRefused(cases);
}

TEST(SafetensorsTest, F47ShapesThatOverflowAndNamesThatAreNoTextAreRefused) {
  const Hostile cases[] = {
      {"more than the file", "{" + Entry("a", "F32", "[4194305,4194305]", "[0,8]") + "}", 8,
       "is F32 [4194305, 4194305], which is 70368777732100 bytes"},
      {"past 64 bits in three", "{" + Entry("a", "F32", "[4194305,4194305,4194305]", "[0,8]") + "}",
       8, "more than 64 bits can count"},
      {"zero beside overflow", "{" + Entry("a", "F32", "[4294967296,4294967296,0]", "[0,0]") + "}",
       0, "more than 64 bits can count"},
      {"not UTF-8", "{" + Entry("a\xff", "F32", "[2]", "[0,8]") + "}", 8,
       "the header is not JSON at byte"},
      {"none that takes bytes", "{" + Entry("a", "F32", "[0,7]", "[0,8]") + "}", 8,
       "is F32 [0, 7], which is 0 bytes"},
  };
  ExpectRefused(cases);
}

TEST(SafetensorsTest, F47AHeaderLongerThanTheFileAllocatesNothing) {
  EXPECT_THAT(std::string(Read("1234567").status().message()), HasSubstr("the file has 7 bytes"));
  for (const uint64_t length :
       {uint64_t{3}, uint64_t{100'000'001}, uint64_t{1} << 40, uint64_t{1} << 63, ~uint64_t{0}}) {
    std::string bytes(10, ' ');
    std::memcpy(bytes.data(), &length, sizeof(length));
    EXPECT_THAT(std::string(Read(bytes).status().message()), HasSubstr("bytes, expected at most 2"))
        << length;
  }
}

TEST(SafetensorsTest, ChangedBytesNeverCrash) {
  const std::string good = SafetensorsBytes(
      "{" + Entry("a", "F32", "[2,3]", "[0,24]") + "," + Entry("b", "F16", "[4]", "[24,32]") + "}",
      32);
  ASSERT_TRUE(Read(good).ok());
  constexpr uint32_t kSeed = 20260101;
  std::mt19937 random(kSeed);
  for (int i = 0; i < 300; ++i) {
    std::string bytes = good;
    for (int change = 0; change < 3; ++change) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    const auto entries = Read(bytes);
    if (!entries.ok()) {
      EXPECT_TRUE(absl::IsInvalidArgument(entries.status())) << "seed " << kSeed << " round " << i;
    }
  }
}

}  // namespace
}  // namespace vernier
