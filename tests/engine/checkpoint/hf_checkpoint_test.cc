// Hugging Face folders: shards, values, text, and folders that are broken or hostile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/checkpoint/checkpoint.h"
#include "tests/engine/checkpoint/model_folder.h"
#include "tests/testing/tensor_file.h"
#include "tests/testing/test_data.h"

namespace vernier {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;
using testing::ModelFolder;
using testing::SafetensorsBytes;
using testing::SafetensorsWriter;
using testing::SmallLlamaConfig;
using testing::SmallLlamaTensors;
using testing::TensorFile;
using testing::TestDataPath;
using testing::WriteSmallLlama;

std::vector<float> AllRows(const WeightSource& source) {
  std::vector<float> values(static_cast<size_t>(source.rows * source.cols));
  EXPECT_TRUE(source.read(0, source.rows, values.data()).ok());
  return values;
}

std::string OpenError(const std::string& path, absl::StatusCode code) {
  const absl::Status status = Checkpoint::Open(path).status();
  EXPECT_EQ(status.code(), code) << status;
  return std::string(status.message());
}

TEST(HfCheckpointTest, ShardsAreOneCheckpoint) {
  const auto opened = Checkpoint::Open(TestDataPath("checkpoints/tiny_llama3"));
  ASSERT_TRUE(opened.ok()) << opened.status();
  const Checkpoint& checkpoint = **opened;
  EXPECT_EQ(checkpoint.tensors().size(), 2u * 9 + 3);
  EXPECT_EQ(checkpoint.source(), "bf16");
  EXPECT_FALSE(checkpoint.source_is_quantized());
  EXPECT_EQ(checkpoint.disk_bytes(), 120192 + 95608);
  EXPECT_EQ(checkpoint.tokenizer_source().kind, TokenizerSource::Kind::kNone);
  EXPECT_EQ(checkpoint.tokenizer_source().reason,
            "no tokenizer.json and no tokenizer.model in the folder");
  int64_t bytes = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    EXPECT_EQ(tensor.type, "bf16");
    EXPECT_TRUE(checkpoint.Has(tensor.name)) << tensor.name;
    bytes += tensor.bytes;
  }
  EXPECT_EQ(bytes, 2 * checkpoint.config().Parameters());
  const auto down = checkpoint.OpenMatrix("layers.1.mlp.down");
  ASSERT_TRUE(down.ok()) << down.status();
  EXPECT_EQ(down->rows, 64);
  EXPECT_EQ(down->cols, 96);
}

TEST(HfCheckpointTest, HashIsOfTheFileOrOfTheFilesHashesInOrder) {
  // As `sha256sum model-*.safetensors | cut -d' ' -f1 | sha256sum` prints it.
  const auto two_files = Checkpoint::Open(TestDataPath("checkpoints/tiny_llama3"));
  ASSERT_TRUE(two_files.ok()) << two_files.status();
  EXPECT_EQ(*(*two_files)->WeightsSha256(),
            "23afbcd1df3d4465588ac38f6a76ce33ccda51c43f5e9f4133ecf2acdb4d1b9c");
  // As sha256sum prints it; see SOURCE.md of the model.
  const auto stories = Checkpoint::Open(TestDataPath("stories260K/hf"));
  ASSERT_TRUE(stories.ok()) << stories.status();
  EXPECT_EQ(*(*stories)->WeightsSha256(),
            "f28d20dd6dcb69c4af98a45e5504449210319a087aa3f79d011e6e0170d5ba63");
}

TEST(HfCheckpointTest, RowsAreDecodedFromAnywhere) {
  const ModelFolder folder;
  WriteSmallLlama(folder);
  auto opened = Checkpoint::Open(folder.path());
  ASSERT_TRUE(opened.ok()) << opened.status();
  const auto source = (*opened)->OpenMatrix("layers.0.mlp.up");  // [12, 8], value i is i
  ASSERT_TRUE(source.ok()) << source.status();
  opened->reset();  // the source keeps what it needs
  std::vector<float> rows(16);
  ASSERT_TRUE(source->read(5, 2, rows.data()).ok());
  for (size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(rows[i], static_cast<float>(5 * 8 + i));
}

TEST(HfCheckpointTest, FusedAndTransposedTensorsAreSplit) {
  const std::string folder = TestDataPath("checkpoints/tiny_gpt2");
  const TensorFile file(folder + "/model.safetensors");
  const std::string name = "transformer.h.1.attn.c_attn";
  const std::vector<uint16_t> stored = file.Read<uint16_t>(name + ".weight");  // [48, 3 * 48]
  const std::vector<uint16_t> bias = file.Read<uint16_t>(name + ".bias");
  const auto checkpoint = Checkpoint::Open(folder);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  constexpr int64_t kHidden = 48;
  const char* parts[] = {"q", "k", "v"};
  for (int64_t part = 0; part < 3; ++part) {
    const std::string canonical = std::string("layers.1.attention.") + parts[part];
    const auto matrix = (*checkpoint)->OpenMatrix(canonical);
    ASSERT_TRUE(matrix.ok()) << matrix.status();
    ASSERT_EQ(matrix->rows, kHidden);
    ASSERT_EQ(matrix->cols, kHidden);
    const std::vector<float> values = AllRows(*matrix);
    for (int64_t row = 0; row < kHidden; ++row) {
      for (int64_t col = 0; col < kHidden; ++col) {
        ASSERT_EQ(values[row * kHidden + col],
                  F32FromF16(stored[col * 3 * kHidden + part * kHidden + row]))
            << canonical << " [" << row << ", " << col << "]";
      }
    }
    std::vector<float> few(2 * kHidden);
    ASSERT_TRUE(matrix->read(7, 2, few.data()).ok());
    EXPECT_TRUE(std::equal(few.begin(), few.end(), values.begin() + 7 * kHidden));
    const auto vector = (*checkpoint)->ReadVector(canonical + ".bias");
    ASSERT_TRUE(vector.ok()) << vector.status();
    ASSERT_EQ(vector->size(), size_t{kHidden});
    EXPECT_EQ((*vector)[5], F32FromF16(bias[part * kHidden + 5]));
  }
}

TEST(HfCheckpointTest, EachKindOfTensorIsAskedForAsItIs) {
  const ModelFolder folder;
  WriteSmallLlama(folder);
  const auto checkpoint = Checkpoint::Open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_TRUE(absl::IsNotFound((*checkpoint)->OpenMatrix("lm_head").status()));
  EXPECT_FALSE((*checkpoint)->Has("lm_head"));
  EXPECT_TRUE(absl::IsInvalidArgument((*checkpoint)->OpenMatrix("final_norm.weight").status()));
  EXPECT_TRUE(absl::IsInvalidArgument((*checkpoint)->ReadVector("embed").status()));
}

TEST(HfCheckpointTest, AFileThatShrinksIsAnError) {
  const ModelFolder folder;
  WriteSmallLlama(folder);
  const auto checkpoint = Checkpoint::Open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  std::filesystem::resize_file(folder.path() + "/model.safetensors", 1000);
  const absl::Status status = (*checkpoint)->OpenMatrix("layers.0.mlp.down").status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("(it had 3564 bytes when it was opened)"));
}

// The small Llama with one tensor changed, left out (no dimensions) or added.
absl::Status OpenWith(const std::string& name, const std::vector<int64_t>& shape) {
  const ModelFolder folder;
  WriteSmallLlama(folder);
  SafetensorsWriter writer;
  for (const auto& [theirs, theirs_shape] : SmallLlamaTensors()) {
    if (theirs != name) writer.Add(theirs, theirs_shape);
  }
  if (!shape.empty()) writer.Add(name, shape);
  folder.Write("model.safetensors", writer.Bytes());
  return Checkpoint::Open(folder.path()).status();
}

TEST(HfCheckpointTest, TensorsThatDoNotFitAreNamed) {
  const absl::Status unknown = OpenWith("model.layers.0.self_attn.q_norm.weight", {4});
  EXPECT_TRUE(absl::IsUnimplemented(unknown));
  EXPECT_THAT(std::string(unknown.message()),
              HasSubstr("tensor model.layers.0.self_attn.q_norm.weight is not one that"));
  const absl::Status twice = OpenWith("embed_tokens.weight", {16, 8});
  EXPECT_TRUE(absl::IsInvalidArgument(twice));
  EXPECT_THAT(
      std::string(twice.message()),
      HasSubstr("tensors model.embed_tokens.weight and embed_tokens.weight are both embed"));
  const absl::Status cube = OpenWith("model.embed_tokens.weight", {2, 8, 8});
  EXPECT_THAT(
      std::string(cube.message()),
      HasSubstr(
          "model.safetensors: tensor model.embed_tokens.weight: shape [2, 8, 8], expected one "
          "or two dimensions"));
}

TEST(HfCheckpointTest, OtherTypesAreRefusedByName) {
  const ModelFolder folder;
  folder.Write("config.json", SmallLlamaConfig().dump());
  folder.Write("model.safetensors",
               SafetensorsBytes("{\"model.norm.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[8],"
                                "\"data_offsets\":[0,8]}}",
                                8));
  EXPECT_THAT(OpenError(folder.path(), absl::StatusCode::kUnimplemented),
              HasSubstr("model.safetensors: tensor model.norm.weight: dtype F8_E4M3 is not "
                        "supported for weights (F32, F16 and BF16 are)"));
}

TEST(HfCheckpointTest, AnIndexNamesFilesOfItsFolderAlone) {
  for (const char* shard : {"../model.safetensors", "/etc/a.safetensors", "a/b.safetensors", "..",
                            "", ".safetensors", "pytorch_model.bin"}) {
    const ModelFolder folder;
    folder.Write("config.json", SmallLlamaConfig().dump());
    folder.Write("model.safetensors.index.json", Json{{"weight_map", {{"a", shard}}}}.dump());
    EXPECT_THAT(OpenError(folder.path(), absl::StatusCode::kInvalidArgument),
                HasSubstr("expected the name of a .safetensors file in the folder"))
        << shard;
  }
}

TEST(HfCheckpointTest, BrokenIndexesAreRefused) {
  const ModelFolder folder;
  folder.Write("config.json", SmallLlamaConfig().dump());
  EXPECT_THAT(OpenError(folder.path(), absl::StatusCode::kNotFound),
              HasSubstr("has neither model.safetensors nor model.safetensors.index.json"));
  folder.Write("model.safetensors.index.json", R"({"weight_map": [1]})");
  EXPECT_THAT(OpenError(folder.path(), absl::StatusCode::kInvalidArgument),
              HasSubstr("weight_map is [1], expected an object from tensors to files"));
  folder.Write("model.safetensors.index.json", R"({"weight_map": {"a": 5}})");
  EXPECT_THAT(OpenError(folder.path(), absl::StatusCode::kInvalidArgument), HasSubstr("a is 5"));
  folder.Write("model.safetensors.index.json", R"({"weight_map": {"a": "x.safetensors"}})");
  EXPECT_THAT(OpenError(folder.path(), absl::StatusCode::kNotFound), HasSubstr("x.safetensors"));
}

// The small Llama in two shards: norms in b, the rest in a, and an index of what is where.
TEST(HfCheckpointTest, AnIndexThatContradictsItsShardsIsRefused) {
  const ModelFolder folder;
  folder.Write("config.json", SmallLlamaConfig().dump());
  SafetensorsWriter a, b;
  Json map;
  for (const auto& [name, shape] : SmallLlamaTensors()) {
    const bool in_b = shape.size() == 1;
    (in_b ? b : a).Add(name, shape);
    map[name] = in_b ? "b.safetensors" : "a.safetensors";
  }
  folder.Write("a.safetensors", a.Bytes());
  folder.Write("b.safetensors", b.Bytes());
  auto write_index = [&] {
    folder.Write("model.safetensors.index.json", Json{{"weight_map", map}}.dump());
  };
  write_index();
  const auto opened = Checkpoint::Open(folder.path());
  EXPECT_TRUE(opened.ok()) << opened.status();

  map["model.norm.weight"] = "a.safetensors";  // the other shard has it
  write_index();
  EXPECT_EQ(OpenError(folder.path(), absl::StatusCode::kInvalidArgument),
            folder.path() +
                "/a.safetensors has no tensor model.norm.weight, "
                "model.safetensors.index.json says it has");
  map["model.norm.weight"] = "b.safetensors";
  map["lm_head.weight"] = "b.safetensors";  // none has it
  write_index();
  EXPECT_EQ(OpenError(folder.path(), absl::StatusCode::kInvalidArgument),
            folder.path() +
                "/b.safetensors has no tensor lm_head.weight, "
                "model.safetensors.index.json says it has");
}

TEST(HfCheckpointTest, WhatIsNoModelIsSaid) {
  const ModelFolder folder;
  EXPECT_THAT(OpenError(folder.path(), absl::StatusCode::kNotFound), HasSubstr("config.json"));
  EXPECT_THAT(OpenError(folder.path() + "/none", absl::StatusCode::kNotFound), HasSubstr("none"));
  folder.Write("weights.pt", "x");
  EXPECT_THAT(OpenError(folder.path() + "/weights.pt", absl::StatusCode::kUnimplemented),
              HasSubstr("neither a folder with config.json nor a .gguf file"));
  std::filesystem::create_directory(folder.path() + "/config.json");
  EXPECT_THAT(OpenError(folder.path(), absl::StatusCode::kInvalidArgument),
              HasSubstr("config.json is not a regular file"));
}

TEST(HfCheckpointTest, ChatTemplateIsFoundWhereverItIs) {
  const ModelFolder folder;
  WriteSmallLlama(folder);
  auto chat_template = [&] {
    const auto checkpoint = Checkpoint::Open(folder.path());
    if (!checkpoint.ok()) return std::string(checkpoint.status().message());
    return (*checkpoint)->tokenizer_source().chat_template;
  };
  folder.Write("tokenizer.json", "{}");
  EXPECT_EQ(chat_template(), "");
  folder.Write("tokenizer_config.json", R"({"chat_template": "one"})");
  EXPECT_EQ(chat_template(), "one");
  folder.Write("tokenizer_config.json", R"({"chat_template": [{"name": "tools", "template": "a"},
      {"name": "default", "template": "two"}]})");
  EXPECT_EQ(chat_template(), "two");
  folder.Write("tokenizer_config.json", R"({"chat_template": [3]})");
  EXPECT_THAT(chat_template(), HasSubstr("chat_template is [3], expected a string or a list"));
  folder.Write("tokenizer_config.json", R"({"chat_template": 3})");
  EXPECT_THAT(chat_template(), HasSubstr("chat_template is 3, expected a string"));
  folder.Write("tokenizer_config.json", "{}");
  folder.Write("chat_template.jinja", "three");
  EXPECT_EQ(chat_template(), "three");
}

}  // namespace
}  // namespace vernier
