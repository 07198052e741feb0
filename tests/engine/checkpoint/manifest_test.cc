// The manifest's text: what is written is read back, and what is wrong is refused by name.
#include "engine/checkpoint/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace vernier {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

Manifest Example() {
  return {.files = {{"config.json", 654, std::string(64, 'a')},
                    {"model.safetensors", 1234, std::string(64, '0')}},
          .tensors = {{"embed", "model.safetensors", 512, 0x0123456789abcdef},
                      {"final_norm.weight", "model.safetensors", 32, 0}},
          .golden = GoldenTokens{{1, 403}, {407, 261}, 0.25},
          .golden_formats = {{FormatId::kInt8, {{1}, {407}, 0.5}},
                             {FormatId::kNf4, {{1, 403}, {407, 5}, 0.125}}}};
}

std::string Refusal(const std::string& text) {
  const auto parsed = ParseManifest(text, "m.json");
  EXPECT_TRUE(absl::IsInvalidArgument(parsed.status())) << parsed.status();
  return std::string(parsed.status().message());
}

TEST(ManifestTest, WhatIsWrittenIsReadBack) {
  Manifest manifest = Example();
  EXPECT_EQ(*ParseManifest(RenderManifest(manifest), "m.json"), manifest);
  manifest.golden.reset();
  manifest.golden_formats.clear();
  EXPECT_EQ(*ParseManifest(RenderManifest(manifest), "m.json"), manifest);
  EXPECT_THAT(RenderManifest(manifest), HasSubstr("\"xxh3\": \"0123456789abcdef\""));
  EXPECT_THAT(RenderManifest(manifest), HasSubstr("\"xxh3\": \"0000000000000000\""));
}

TEST(ManifestTest, ItLiesBesideTheModel) {
  EXPECT_EQ(ManifestPathOfFolder("models/a"), "models/a/manifest.json");
  EXPECT_EQ(ManifestPathOfFile("models/a.gguf"), "models/a.gguf.manifest.json");
}

TEST(ManifestTest, HostileNamesAreRefused) {
  for (const char* path : {"../config.json", "/etc/passwd", "a/b", "..", ".", "", "a\\b"}) {
    Json json = Json::parse(RenderManifest(Example()));
    json["files"][0]["path"] = path;
    EXPECT_THAT(Refusal(json.dump()), HasSubstr("m.json: files[0]: path is ")) << path;
  }
  Json json = Json::parse(RenderManifest(Example()));
  json["files"][0]["path"] = std::string("a\0b", 3);
  EXPECT_THAT(Refusal(json.dump()), HasSubstr("expected the plain name of a file"));
  json["files"][0]["path"] = std::string(256, 'a');
  EXPECT_THAT(Refusal(json.dump()), HasSubstr("expected the plain name of a file"));
}

TEST(ManifestTest, EachFieldIsCheckedByName) {
  const struct {
    const char* pointer;
    Json value;
    const char* says;
  } cases[] = {
      {"/vernier_manifest", 2,
       "m.json: vernier_manifest is 2, expected a whole number from 1 to 1"},
      {"/vernier_manifest", nullptr, "vernier_manifest is not there"},
      {"/files", nullptr, "files is not there, expected a list"},
      {"/files", Json::object(), "files is {}, expected a list"},
      {"/files/0", 7, "m.json: files[0] is not an object"},
      {"/files/0/size", -1, "files[0]: size is -1"},
      {"/files/0/size", 1e30, "files[0]: size is 1e+30"},
      {"/files/0/size", UINT64_MAX, "files[0]: size is 18446744073709551615"},
      {"/files/0/path", 5, "files[0]: path is 5, expected a string"},
      {"/files/0/sha256", "ab", "files[0]: sha256 is \"ab\", expected 64 lower-case hex digits"},
      {"/files/0/sha256", std::string(64, 'A'), "expected 64 lower-case hex digits"},
      {"/files/0/mode", 1, "m.json: files[0] has an unknown key mode"},
      {"/files/1/path", "config.json", "tensors[0]: file is \"model.safetensors\", expected"},
      {"/tensors/1/name", "embed", "m.json: tensor embed is there twice"},
      {"/tensors/1/name", "", "tensors[1]: name is \"\""},
      {"/tensors/1/name", std::string(256, 'a'), "expected 1 to 255 bytes"},
      {"/tensors/0/file", "elsewhere", "tensors[0]: file is \"elsewhere\""},
      {"/tensors/0/bytes", 1.5, "tensors[0]: bytes is 1.5"},
      {"/tensors/0/xxh3", "0x", "tensors[0]: xxh3 is \"0x\", expected 16 lower-case hex digits"},
      {"/tensors/0/xxh3", 5, "tensors[0]: xxh3 is 5, expected a string"},
      {"/golden", 5, "m.json: golden is not an object"},
      {"/golden/prompt", Json::array(), "golden: prompt is [], expected a list of 1 to"},
      {"/golden/tokens", {1, -1}, "golden: tokens is [1,-1]"},
      {"/golden/tokens", {1, "a"}, "golden: tokens is [1,\"a\"]"},
      {"/golden/tokens", {1, 1ll << 31}, "golden: tokens is [1,2147483648]"},
      {"/golden/least_margin", -1, "golden: least_margin is -1"},
      {"/golden_formats", 5, "m.json: golden_formats is not an object"},
      {"/golden_formats/int4", Json::object(), "golden_formats has a key int4, which is no quan"},
      {"/golden_formats/fp16", Json::object(), "golden_formats has a key fp16, which is no quan"},
      {"/golden_formats/nf4", Json::object(), "golden_formats.nf4: prompt is not there"},
      {"/golden_formats/nf4/tokens", {-1}, "golden_formats.nf4: tokens is [-1]"},
      {"/signature", "x", "m.json has an unknown key signature"},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(one.says);
    Json json = Json::parse(RenderManifest(Example()));
    json[Json::json_pointer(one.pointer)] = one.value;
    EXPECT_THAT(Refusal(json.dump()), HasSubstr(one.says));
  }
  Json json = Json::parse(RenderManifest(Example()));
  json["files"].push_back(json["files"][0]);
  EXPECT_THAT(Refusal(json.dump()), HasSubstr("m.json: file config.json is there twice"));
}

TEST(ManifestTest, WhatIsNoObjectIsRefused) {
  EXPECT_THAT(Refusal(""), HasSubstr("m.json is not JSON"));
  EXPECT_THAT(Refusal("[]"), HasSubstr("expected an object"));
  EXPECT_THAT(Refusal("{\"files\":" + std::string(1 << 20, '[')), HasSubstr("m.json"));
  EXPECT_THAT(Refusal("{\"a\":\"\xff\"}"), HasSubstr("is not JSON"));
  EXPECT_EQ(Refusal(RenderManifest(Example()) + "x"), "m.json is not JSON");
}

}  // namespace
}  // namespace vernier
