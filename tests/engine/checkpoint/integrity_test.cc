// Models beside a manifest: each difference is refused by the name of the file and the tensor.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/checkpoint.h"
#include "tests/engine/checkpoint/model_folder.h"
#include "tests/testing/test_data.h"

namespace vernier {
namespace {

using ::testing::HasSubstr;
using testing::ModelFolder;
using testing::TestDataPath;

constexpr int kFlips = 1000;
constexpr uint32_t kSeed = 20261127;

std::string ReadBytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// What LoadModel reads: the header, every tensor, every file's hash.
absl::Status ReadAll(const std::string& path) {
  const auto opened = Checkpoint::Open(path);
  if (!opened.ok()) return opened.status();
  const Checkpoint& checkpoint = **opened;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    if (!checkpoint.Has(tensor.name)) continue;
    const absl::Status status = tensor.shape.size() == 2
                                    ? checkpoint.OpenMatrix(tensor.name).status()
                                    : checkpoint.ReadVector(tensor.name).status();
    if (!status.ok()) return status;
  }
  return checkpoint.WeightsSha256().status();
}

void WriteManifest(const std::string& model, const std::string& manifest_path) {
  const auto opened = Checkpoint::Open(model, ManifestUse::kIgnore);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ((*opened)->manifest(), nullptr);
  const auto manifest = (*opened)->MakeManifest();
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  std::ofstream(manifest_path, std::ios::binary) << RenderManifest(*manifest);
}

// A copy of one of our models, with its manifest.
class IntegrityTest : public ::testing::Test {
 protected:
  void CopyFolder(const std::string& model) {
    std::filesystem::copy(TestDataPath(model), folder_.path(),
                          std::filesystem::copy_options::recursive |
                              std::filesystem::copy_options::overwrite_existing);
    std::filesystem::remove(folder_.path() + "/model.gguf");
    path_ = folder_.path();
    WriteManifest(path_, ManifestPathOfFolder(path_));
    ASSERT_TRUE(ReadAll(path_).ok()) << ReadAll(path_);
  }
  void CopyGguf(const std::string& file) {
    path_ = folder_.path() + "/model.gguf";
    std::filesystem::copy_file(TestDataPath(file), path_);
    WriteManifest(path_, ManifestPathOfFile(path_));
    ASSERT_TRUE(ReadAll(path_).ok()) << ReadAll(path_);
  }
  std::string Refusal() const {
    const absl::Status status = ReadAll(path_);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    return std::string(status.message());
  }
  // Flips bits at seeded positions of all files together; each must be refused.
  void FlipBits(const std::vector<std::string>& names) const {
    std::vector<std::string> contents;
    size_t bytes = 0;
    for (const std::string& name : names) {
      contents.push_back(ReadBytes(folder_.path() + "/" + name));
      bytes += contents.back().size();
    }
    std::mt19937 random(kSeed);
    SCOPED_TRACE(absl::StrCat("seed ", kSeed));
    for (int i = 0; i < kFlips; ++i) {
      size_t at = std::uniform_int_distribution<size_t>(0, bytes - 1)(random);
      size_t file = 0;
      while (at >= contents[file].size()) at -= contents[file++].size();
      std::string changed = contents[file];
      const int bit = std::uniform_int_distribution<int>(0, 7)(random);
      changed[at] = static_cast<char>(changed[at] ^ 1 << bit);
      folder_.Write(names[file], changed);
      const absl::Status status = ReadAll(path_);
      ASSERT_FALSE(status.ok()) << names[file] << " byte " << at << " bit " << bit;
      ASSERT_FALSE(status.message().empty());
      folder_.Write(names[file], contents[file]);
    }
    EXPECT_TRUE(ReadAll(path_).ok());
  }

  const ModelFolder folder_;
  std::string path_;
};

TEST_F(IntegrityTest, F46EveryFlippedBitOfAFolderIsCaught) {
  CopyFolder("checkpoints/tiny_llama3");
  FlipBits({"config.json", "generation_config.json", "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors", "model.safetensors.index.json", "manifest.json"});
}

// Codes, scales, zero points and groups each have their own checksum.
TEST_F(IntegrityTest, F46EveryFlippedBitOfAQuantizedFolderIsCaught) {
  for (const char* layout : {"tiny_qwen2_gptq_int4", "tiny_qwen2_bnb_nf4_dq"}) {
    CopyFolder(std::string("checkpoints/") + layout);
    FlipBits({"config.json", "model.safetensors", "manifest.json"});
  }
}

TEST_F(IntegrityTest, F46EveryFlippedBitOfAGgufFileIsCaught) {
  CopyGguf("checkpoints/tiny_qwen3/model.gguf");
  FlipBits({"model.gguf", "model.gguf.manifest.json"});
}

// GPT-2's matrices are stored transposed and fused: parts of a tensor, piece by piece.
TEST_F(IntegrityTest, AFlippedBitIsToldWithItsTensorAndFile) {
  for (const char* model : {"checkpoints/tiny_gpt2", "checkpoints/tiny_qwen2"}) {
    CopyFolder(model);
    const std::string file = path_ + "/model.safetensors";
    std::string bytes = ReadBytes(file);
    bytes.back() ^= 1;
    folder_.Write("model.safetensors", bytes);
    const std::string refusal = Refusal();
    EXPECT_THAT(refusal, HasSubstr(file + ": tensor "));
    EXPECT_THAT(refusal, HasSubstr(" has the XXH3 "));
  }
}

TEST_F(IntegrityTest, ATextFileIsHeldToItsHash) {
  CopyFolder("checkpoints/tiny_qwen2");
  std::string config = ReadBytes(path_ + "/config.json");
  const size_t at = config.find("\"architectures\"");
  ASSERT_GT(at, 0u);
  config[at - 1] = '\n';  // means the same
  folder_.Write("config.json", config);
  const std::string refusal = Refusal();
  EXPECT_THAT(refusal, HasSubstr("manifest.json: file config.json has the SHA-256 "));
}

// Of two weight files, and of one.
TEST_F(IntegrityTest, TheDigestOfTheWeightsDoesNotDependOnTheManifest) {
  const auto digest = [&](ManifestUse use) {
    const auto opened = Checkpoint::Open(path_, use);
    EXPECT_TRUE(opened.ok()) << opened.status();
    EXPECT_EQ((*opened)->manifest() != nullptr, use == ManifestUse::kVerify);
    return *(*opened)->WeightsSha256();
  };
  CopyFolder("checkpoints/tiny_llama3");
  EXPECT_EQ(digest(ManifestUse::kVerify), digest(ManifestUse::kIgnore));
  CopyGguf("checkpoints/tiny_qwen3/model.gguf");
  EXPECT_EQ(digest(ManifestUse::kVerify), digest(ManifestUse::kIgnore));
}

TEST_F(IntegrityTest, SizesAndTheListOfFilesMustAgree) {
  CopyFolder("checkpoints/tiny_qwen2");
  const std::string generation = ReadBytes(path_ + "/generation_config.json");
  folder_.Write("generation_config.json", generation + " ");
  EXPECT_THAT(Refusal(),
              HasSubstr(absl::StrCat("generation_config.json has ", generation.size() + 1,
                                     " bytes, its manifest says ", generation.size())));
  std::filesystem::remove(path_ + "/generation_config.json");
  EXPECT_THAT(Refusal(), HasSubstr("manifest.json lists the file generation_config.json, which"));
  folder_.Write("generation_config.json", generation);
  folder_.Write("chat_template.jinja", "{{ 1 }}");
  EXPECT_THAT(Refusal(), HasSubstr("chat_template.jinja is not in the manifest"));
  std::filesystem::remove(path_ + "/chat_template.jinja");
  folder_.Write("README.md", "not read, so not listed");
  EXPECT_TRUE(ReadAll(path_).ok());
}

TEST_F(IntegrityTest, TensorsMustAgree) {
  CopyFolder("checkpoints/tiny_qwen2");
  const auto good = ReadManifest(path_ + "/manifest.json");
  ASSERT_TRUE(good.ok() && good->has_value());
  const auto refusal = [&](auto change) {
    Manifest manifest = **good;
    change(&manifest);
    folder_.Write("manifest.json", RenderManifest(manifest));
    return Refusal();
  };
  const std::string name = (*good)->tensors[0].name;
  EXPECT_THAT(
      refusal([](Manifest* m) { m->tensors.erase(m->tensors.begin()); }),
      HasSubstr(absl::StrCat("model.safetensors: tensor ", name, " is not in the manifest")));
  EXPECT_THAT(refusal([](Manifest* m) { m->tensors[0].name = "layers.99.mlp.up"; }),
              HasSubstr("lists the tensor layers.99.mlp.up of model.safetensors, which the model"));
  EXPECT_THAT(refusal([](Manifest* m) { m->tensors[0].bytes += 1; }),
              HasSubstr(absl::StrCat("tensor ", name, " has ", (*good)->tensors[0].bytes,
                                     " bytes in model.safetensors, its manifest says ")));
  EXPECT_THAT(refusal([](Manifest* m) { m->tensors[0].file = "config.json"; }),
              HasSubstr(" in config.json"));
  EXPECT_THAT(refusal([](Manifest* m) { m->tensors[0].xxh3 ^= 1; }),
              HasSubstr(absl::StrCat("tensor ", name, " has the XXH3 ")));
}

TEST_F(IntegrityTest, AHugeManifestIsRefusedBeforeItIsRead) {
  CopyFolder("checkpoints/tiny_qwen2");
  folder_.Write("manifest.json", "");
  std::filesystem::resize_file(path_ + "/manifest.json", uintmax_t{1} << 40);
  EXPECT_THAT(Refusal(), HasSubstr("manifest.json has 1099511627776 bytes, limit 4194304"));
}

TEST_F(IntegrityTest, F50AFileCutOrReplacedWhileItIsReadIsNoticed) {
  for (const bool with_manifest : {true, false}) {
    SCOPED_TRACE(with_manifest);
    CopyFolder("checkpoints/tiny_qwen2");
    const ManifestUse use = with_manifest ? ManifestUse::kVerify : ManifestUse::kIgnore;
    const std::string weights = path_ + "/model.safetensors";
    const std::string bytes = ReadBytes(weights);
    const auto open = [&] {
      auto opened = Checkpoint::Open(path_, use);
      EXPECT_TRUE(opened.ok()) << opened.status();
      return *std::move(opened);
    };
    auto checkpoint = open();
    std::filesystem::resize_file(weights, bytes.size() - 1);
    absl::Status status = checkpoint->WeightsSha256().status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("model.safetensors ends before byte"));
    status = checkpoint->CheckUnchanged();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr(absl::StrCat("model.safetensors was changed while it was read: it has ",
                                       bytes.size() - 1, " bytes")));

    folder_.Write("model.safetensors", bytes);
    checkpoint = open();
    folder_.Write("other", bytes);
    std::filesystem::rename(path_ + "/other", weights);
    status = checkpoint->CheckUnchanged();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("model.safetensors was replaced or removed while it was read"));

    checkpoint = open();
    EXPECT_TRUE(checkpoint->CheckUnchanged().ok());
    // Of the same size, written later.
    std::filesystem::last_write_time(path_ + "/config.json",
                                     std::filesystem::file_time_type::clock::now());
    status = checkpoint->CheckUnchanged();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("config.json was changed while it was read"));
  }
}

// F45: cuts beside the edges of tensors, without a manifest.
TEST_F(IntegrityTest, F45WeightsCutAtATensorsEdgeAreRefusedByName) {
  for (const char* model : {"checkpoints/tiny_qwen2", "checkpoints/tiny_qwen2/model.gguf"}) {
    const bool folder = std::string(model).find(".gguf") == std::string::npos;
    folder ? CopyFolder(model) : CopyGguf(model);
    const std::string file = folder ? "model.safetensors" : "model.gguf";
    const std::string weights = folder_.path() + "/" + file;
    const std::string bytes = ReadBytes(weights);
    const auto made = Checkpoint::Open(path_, ManifestUse::kIgnore);
    ASSERT_TRUE(made.ok()) << made.status();
    std::filesystem::remove(folder ? ManifestPathOfFolder(path_) : ManifestPathOfFile(path_));
    // Backwards from the end; alignment of GGUF is less than a tensor.
    size_t edge = bytes.size();
    int cuts = 0;
    const auto& tensors = (*made)->tensors();
    for (auto it = tensors.rbegin(); it != tensors.rend(); ++it) {
      for (const size_t cut : {edge - 1, edge, edge + 1}) {
        if (cut >= bytes.size()) continue;
        folder_.Write(file, bytes.substr(0, cut));
        EXPECT_THAT(Refusal(), HasSubstr("tensor ")) << cut;
        EXPECT_THAT(Refusal(), HasSubstr(file)) << cut;
        ++cuts;
      }
      edge -= static_cast<size_t>(it->bytes);
    }
    EXPECT_GT(cuts, 30);
    folder_.Write(file, bytes + "x");
    if (folder) {  // a GGUF file may be padded
      EXPECT_THAT(Refusal(), HasSubstr(file));
    }
  }
}

}  // namespace
}  // namespace vernier
