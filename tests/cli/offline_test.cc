// The verbs that read model files, on the committed ones.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/cli/fake_service.h"
#include "tests/testing/gguf_bytes.h"
#include "tests/testing/test_data.h"

namespace vernier::cli {
namespace {

using ::testing::HasSubstr;
using vernier::testing::GgufBytes;
using vernier::testing::GgufKey;
using vernier::testing::TestDataPath;

nlohmann::json Parsed(const std::string& text) {
  return nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
}

// A small model's weights beside GPT-2's tokenizer.
class TokenizeCommandTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "/vernier_tokenize_test";
    std::filesystem::remove_all(folder_);
    std::filesystem::copy(TestDataPath("gpt-nano-sort/hf"), folder_);
    for (const char* file : {"tokenizer.json", "tokenizer_config.json"}) {
      std::filesystem::copy_file(TestDataPath("tokenizers/gpt2/") + file, folder_ + "/" + file);
    }
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string folder_;
};

TEST_F(TokenizeCommandTest, ShowsIdsAndPieces) {
  const Ran ran = RunWith({"tokenize", "--model", folder_, "Hello world"});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_EQ(ran.out,
            "position     id  token\n"
            "       0  15496  \"Hello\"\n"
            "       1    995  \" world\"\n"
            "\n2 tokens\n");
}

TEST_F(TokenizeCommandTest, JsonHasTheReplyOfTheServer) {
  const nlohmann::json json =
      Parsed(RunWith({"tokenize", "--json", "--model", folder_, "Hello"}).out);
  EXPECT_EQ(json["token_ids"], nlohmann::json({15496}));
  EXPECT_EQ(json["tokens"], nlohmann::json({"SGVsbG8="}));
}

TEST_F(TokenizeCommandTest, SpecialTokensAreTextUnlessAsked) {
  const auto count = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"tokenize", "--json", "--model", folder_});
    return Parsed(RunWith(arguments, {.input = "<|endoftext|>"}).out)["token_ids"].size();
  };
  EXPECT_GT(count({}), 1u);
  EXPECT_EQ(count({"--special"}), 1u);
}

TEST_F(TokenizeCommandTest, BadInputIsToldFromBadFiles) {
  const Ran text = RunWith({"tokenize", "--model", folder_}, {.input = "\xff"});
  EXPECT_EQ(text.exit_code, 65);
  EXPECT_THAT(text.err, HasSubstr("not UTF-8"));
  std::ofstream(folder_ + "/tokenizer.json") << "{";
  EXPECT_EQ(RunWith({"tokenize", "--model", folder_, "x"}).exit_code, 65);
  const Ran none = RunWith({"tokenize", "--model", TestDataPath("gpt-nano-sort/hf"), "x"});
  EXPECT_EQ(none.exit_code, 65);
  EXPECT_THAT(none.err, HasSubstr("no tokenizer"));
}

nlohmann::json IdsOf(const std::string& model, const std::string& text) {
  const Ran ran = RunWith({"tokenize", "--json", "--model", model, text});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  return Parsed(ran.out)["token_ids"];
}

TEST(TokenizeFileTest, ATokenizerJsonAloneIsEnough) {
  EXPECT_EQ(IdsOf(TestDataPath("tokenizers/gpt2/tokenizer.json"), "Hello world"),
            nlohmann::json({15496, 995}));
}

TEST(TokenizeFileTest, ASentencePieceModelAloneIsEnough) {
  EXPECT_GT(IdsOf(TestDataPath("tokenizers/tok512/tok512.model"), "Once upon a time").size(), 1u);
  EXPECT_GT(IdsOf(TestDataPath("tokenizers/unigram/unigram.model"), "the").size(), 0u);
}

// Neither an architecture nor tensors; the bytes tell what it is, so the name may be any.
TEST(TokenizeFileTest, AGgufVocabularyAloneIsEnough) {
  GgufBytes file;
  file.keys = {GgufKey("tokenizer.ggml.model", std::string("gpt2")),
               GgufKey("tokenizer.ggml.pre", std::string("smollm")),
               GgufKey("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "ab"}),
               GgufKey("tokenizer.ggml.token_type", std::vector<int32_t>{1, 1, 1}),
               GgufKey("tokenizer.ggml.merges", std::vector<std::string>{"a b"})};
  const std::string path = ::testing::TempDir() + "/vernier_vocabulary_test";
  std::ofstream(path, std::ios::binary) << file.Bytes();
  EXPECT_EQ(IdsOf(path, "aba"), nlohmann::json({2, 0}));

  file.keys.clear();
  std::ofstream(path, std::ios::binary) << file.Bytes();
  const Ran none = RunWith({"tokenize", "--model", path, "a"});
  EXPECT_EQ(none.exit_code, 65);
  EXPECT_THAT(none.err, HasSubstr("tokenizer.ggml.model"));
  std::filesystem::remove(path);
}

TEST(TokenizeFileTest, WhatIsNoTokenizerIsOneError) {
  const std::string path = ::testing::TempDir() + "/vernier_no_tokenizer_test";
  for (const std::string& bytes : {std::string("hello"), std::string(), std::string("   ")}) {
    std::ofstream(path, std::ios::binary) << bytes;
    const Ran ran = RunWith({"tokenize", "--model", path, "a"});
    EXPECT_EQ(ran.exit_code, 65);
    EXPECT_THAT(ran.err, HasSubstr(path + " is neither a model folder, a GGUF file, a "));
  }
  // What only looks like one is refused by its reader, with the file's name.
  for (const std::string& bytes :
       {std::string("{}"), std::string("\nhello"), std::string("GGUF")}) {
    std::ofstream(path, std::ios::binary) << bytes;
    const Ran ran = RunWith({"tokenize", "--model", path, "a"});
    EXPECT_EQ(ran.exit_code, 65) << bytes;
    EXPECT_THAT(ran.err, HasSubstr(path)) << bytes;
  }
  std::filesystem::remove(path);
  EXPECT_THAT(RunWith({"tokenize", "--model", path, "a"}).err,
              HasSubstr("no model or tokenizer at " + path));
}

TEST(TemplateCommandTest, RendersOverData) {
  const std::string path = ::testing::TempDir() + "/vernier_template_test.jinja";
  std::ofstream(path) << "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}";
  const std::vector<std::string> command = {"template", "--template", path, "--data", "-"};
  const std::string data = R"({"messages": [{"role": "user", "content": "Hi {{ 1 }}"}]})";
  const Ran ran = RunWith(command, {.input = data});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_EQ(ran.out, "<user>Hi {{ 1 }}");

  EXPECT_EQ(RunWith(command, {.input = "{"}).exit_code, 65);
  std::ofstream(path) << "\n{% if %}";
  const Ran broken = RunWith(command, {.input = data});
  EXPECT_EQ(broken.exit_code, 65);
  EXPECT_THAT(broken.err, HasSubstr("template line 2"));
  std::filesystem::remove(path);
}

TEST(InspectCommandTest, ShowsWhatTheFilesHold) {
  const Ran ran = RunWith({"inspect", "--tensors", "--model", TestDataPath("stories260K/hf")});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("llama"));
  EXPECT_THAT(ran.out, HasSubstr("260032"));
  EXPECT_THAT(ran.out, HasSubstr("layers.4.mlp.down"));
}

TEST(InspectCommandTest, JsonAddsUp) {
  const nlohmann::json json =
      Parsed(RunWith({"inspect", "--json", "--model", TestDataPath("stories260K/hf")}).out);
  EXPECT_EQ(json["parameters"], 260032);
  EXPECT_TRUE(json["weights_sha256"].is_null());
  EXPECT_EQ(json["hyperparameters"]["num_layers"], 5);
  int64_t tensors = 0;
  for (const auto& tensor : json["tensors"]) tensors += tensor["bytes"].get<int64_t>();
  int64_t formats = 0;
  for (const auto& format : json["formats"]) formats += format["bytes"].get<int64_t>();
  EXPECT_EQ(tensors, formats);
  EXPECT_GT(tensors, 0);
}

TEST(InspectCommandTest, TheDigestIsReadWhenAsked) {
  const nlohmann::json json = Parsed(
      RunWith({"inspect", "--json", "--digest", "--model", TestDataPath("stories260K/hf")}).out);
  EXPECT_EQ(json["weights_sha256"].get<std::string>().size(), 64u);
}

// Writes one, looks again, and damages the weights.
TEST(InspectCommandTest, AManifestIsWrittenAndThenCompared) {
  const std::string folder = ::testing::TempDir() + "vernier-inspect-" + std::to_string(getpid());
  std::filesystem::copy(TestDataPath("stories260K/hf"), folder);
  const std::string path = folder + "/manifest.json";
  const auto inspect = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"inspect", "--json", "--model", folder});
    return RunWith(more);
  };
  EXPECT_EQ(Parsed(inspect({}).out)["integrity"], "structure only");
  EXPECT_EQ(Parsed(inspect({"--write-manifest"}).out)["manifest_written"], path);
  EXPECT_EQ(Parsed(inspect({}).out)["integrity"], "names and sizes");
  EXPECT_EQ(Parsed(inspect({"--digest"}).out)["integrity"], "manifest");
  nlohmann::json manifest = nlohmann::json::parse(std::ifstream(path));
  EXPECT_EQ(manifest["files"].size(), 2u);
  EXPECT_EQ(manifest["tensors"].size(), 47u);
  EXPECT_FALSE(manifest.contains("golden"));

  {
    std::fstream weights(folder + "/model.safetensors", std::ios::in | std::ios::out);
    weights.seekp(-4, std::ios::end);  // of little weight: still a model
    weights.put('\x7f');
  }
  const Ran damaged = inspect({"--digest"});
  EXPECT_EQ(damaged.exit_code, 65);
  EXPECT_THAT(damaged.err, HasSubstr("file model.safetensors has the SHA-256"));
  // An old manifest does not keep a new one from being written.
  EXPECT_EQ(inspect({"--write-manifest", "--golden"}).exit_code, 0);
  manifest = nlohmann::json::parse(std::ifstream(path));
  EXPECT_GE(manifest["golden"]["tokens"].size(), 1u);
  EXPECT_GE(manifest["golden_formats"]["int8"]["tokens"].size(), 1u);
  EXPECT_EQ(manifest["golden_formats"]["nf4"]["prompt"], manifest["golden"]["prompt"]);
  EXPECT_EQ(inspect({"--digest"}).exit_code, 0);
  EXPECT_EQ(inspect({"--golden"}).exit_code, 64);
  std::filesystem::remove_all(folder);
}

TEST(InspectCommandTest, WhatIsNoModelIsBadInput) {
  const Ran ran = RunWith({"inspect", "--model", "/nowhere"});
  EXPECT_EQ(ran.exit_code, 65);
  EXPECT_THAT(ran.err, HasSubstr("/nowhere"));
}

}  // namespace
}  // namespace vernier::cli
