// GGUF files as checkpoints: config, tokenizer, rows in our order, and what is refused.
#include "engine/checkpoint/gguf_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
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
using testing::GgufTensorBytes;
using ::testing::HasSubstr;
using testing::ModelFolder;
using testing::Raw;
using Strings = std::vector<std::string>;

constexpr int kHidden = 16, kHeads = 2, kHeadDim = 8, kInner = 12, kVocab = 5;

absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const GgufBytes& file) {
  const ModelFolder folder;
  folder.Write("model.gguf", file.Bytes());
  return Checkpoint::Open(folder.path() + "/model.gguf");
}

std::string Refusal(const GgufBytes& file) {
  const auto opened = Open(file);
  if (opened.ok()) return "";
  EXPECT_TRUE(absl::IsInvalidArgument(opened.status()) || absl::IsUnimplemented(opened.status()))
      << opened.status();
  return std::string(opened.status().message());
}

// Row r of a matrix holds 1000 * r + column, r being the row that `our_row` makes of the file's.
template <typename OurRow>
GgufTensorBytes Matrix(const std::string& name, int rows, int cols, OurRow our_row) {
  std::vector<float> values;
  for (int row = 0; row < rows; ++row) {
    for (int col = 0; col < cols; ++col) {
      values.push_back(static_cast<float>(1000 * our_row(row) + col));
    }
  }
  return GgufF32(name, {static_cast<uint64_t>(cols), static_cast<uint64_t>(rows)}, values);
}
GgufTensorBytes Matrix(const std::string& name, int rows, int cols) {
  return Matrix(name, rows, cols, [](int row) { return row; });
}

// The row of Hugging Face's q or k that llama.cpp's converter puts at `row`: it reshapes
// [heads, 2, head_dim / 2] and swaps the last two.
int Unswapped(int row) {
  const int head = row / kHeadDim, pair = row % kHeadDim / 2, part = row % 2;
  return head * kHeadDim + part * kHeadDim / 2 + pair;
}

GgufTensorBytes Ones(const std::string& name, int size) {
  return GgufF32(name, {static_cast<uint64_t>(size)}, std::vector<float>(size, 1));
}

// A Llama of one layer with one KV head, tied.
GgufBytes Llama() {
  GgufBytes file;
  file.keys = {GgufKey("general.architecture", std::string("llama")),
               GgufKey("llama.block_count", uint32_t{1}),
               GgufKey("llama.embedding_length", uint32_t{kHidden}),
               GgufKey("llama.feed_forward_length", uint32_t{kInner}),
               GgufKey("llama.context_length", uint32_t{64}),
               GgufKey("llama.attention.head_count", uint32_t{kHeads}),
               GgufKey("llama.attention.head_count_kv", uint32_t{1}),
               GgufKey("llama.attention.layer_norm_rms_epsilon", 1e-5f),
               GgufKey("llama.rope.freq_base", 10000.0f),
               GgufKey("llama.rope.dimension_count", uint32_t{kHeadDim})};
  file.tensors = {Matrix("token_embd.weight", kVocab, kHidden),
                  Matrix("blk.0.attn_q.weight", kHeads * kHeadDim, kHidden, Unswapped),
                  Matrix("blk.0.attn_k.weight", kHeadDim, kHidden, Unswapped),
                  Matrix("blk.0.attn_v.weight", kHeadDim, kHidden),
                  Matrix("blk.0.attn_output.weight", kHidden, kHidden),
                  Matrix("blk.0.ffn_gate.weight", kInner, kHidden),
                  Matrix("blk.0.ffn_up.weight", kInner, kHidden),
                  Matrix("blk.0.ffn_down.weight", kHidden, kInner),
                  Ones("blk.0.attn_norm.weight", kHidden),
                  Ones("blk.0.ffn_norm.weight", kHidden),
                  Ones("output_norm.weight", kHidden)};
  return file;
}

GgufBytes WithKeys(const Strings& keys) {
  GgufBytes file = Llama();
  file.keys.insert(file.keys.end(), keys.begin(), keys.end());
  return file;
}

// The Llama with the key that begins as `key` does replaced by it.
GgufBytes Replacing(const std::string& name, const std::string& key) {
  GgufBytes file = Llama();
  for (std::string& old : file.keys) {
    if (old.starts_with(testing::GgufString(name))) old = key;
  }
  return file;
}

TEST(GgufCheckpointTest, ConfigComesFromMetadata) {
  const auto opened = Open(Llama());
  ASSERT_TRUE(opened.ok()) << opened.status();
  const ModelConfig& config = (*opened)->config();
  EXPECT_EQ(config.architecture, "llama");
  EXPECT_EQ(config.num_layers, 1);
  EXPECT_EQ(config.hidden, kHidden);
  EXPECT_EQ(config.intermediate, kInner);
  EXPECT_EQ(config.context, 64);
  EXPECT_EQ(config.vocab, kVocab);  // the embedding's rows
  EXPECT_EQ(config.attention.num_heads, kHeads);
  EXPECT_EQ(config.attention.num_kv_heads, 1);
  EXPECT_EQ(config.attention.head_dim, kHeadDim);
  EXPECT_EQ(config.norm_epsilon, 1e-5f);
  EXPECT_TRUE(config.tied_lm_head);
  EXPECT_THAT(config.inverse_frequencies,
              ElementsAre(1.0f, ::testing::FloatEq(0.1f), ::testing::FloatEq(0.01f),
                          ::testing::FloatEq(0.001f)));
  EXPECT_EQ((*opened)->source(), "fp32");
  EXPECT_FALSE((*opened)->source_is_quantized());
  EXPECT_EQ((*opened)->disk_bytes(), static_cast<int64_t>(Llama().Bytes().size()));
}

TEST(GgufCheckpointTest, RowsComeInOurOrder) {
  const auto opened = Open(Llama());
  ASSERT_TRUE(opened.ok()) << opened.status();
  const struct {
    const char* name;
    int rows, cols;
  } matrices[] = {{"embed", kVocab, kHidden},
                  {"layers.0.attention.q", kHeads * kHeadDim, kHidden},
                  {"layers.0.attention.k", kHeadDim, kHidden},
                  {"layers.0.attention.v", kHeadDim, kHidden},
                  {"layers.0.mlp.down", kHidden, kInner}};
  for (const auto& matrix : matrices) {
    SCOPED_TRACE(matrix.name);
    const auto source = (*opened)->OpenMatrix(matrix.name);
    ASSERT_TRUE(source.ok()) << source.status();
    ASSERT_EQ(source->rows, matrix.rows);
    ASSERT_EQ(source->cols, matrix.cols);
    // From the second row, two at a time, so that runs cross heads.
    for (int row = 1; row + 1 < matrix.rows; row += 2) {
      std::vector<float> values(2 * matrix.cols);
      ASSERT_TRUE(source->read(row, 2, values.data()).ok());
      EXPECT_EQ(values[0], 1000.0f * static_cast<float>(row));
      EXPECT_EQ(values[matrix.cols + 3], 1000.0f * static_cast<float>(row + 1) + 3);
    }
  }
  const auto norm = (*opened)->ReadVector("final_norm.weight");
  ASSERT_TRUE(norm.ok()) << norm.status();
  EXPECT_EQ(*norm, std::vector<float>(kHidden, 1));
}

TEST(GgufCheckpointTest, MatricesAndVectorsAreNotMixedUp) {
  const auto opened = Open(Llama());
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_FALSE((*opened)->Has("lm_head"));
  EXPECT_TRUE(absl::IsNotFound((*opened)->OpenMatrix("lm_head").status()));
  EXPECT_THAT((*opened)->OpenMatrix("final_norm.weight").status().message(),
              HasSubstr("has 1 dimensions, expected 2"));
  EXPECT_THAT((*opened)->ReadVector("embed").status().message(),
              HasSubstr("has 2 dimensions, expected 1"));
}

TEST(GgufCheckpointTest, HeadOfItsOwnIsNotTied) {
  GgufBytes file = Llama();
  file.tensors.push_back(Matrix("output.weight", kVocab, kHidden));
  const auto opened = Open(file);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_FALSE((*opened)->config().tied_lm_head);
  EXPECT_TRUE((*opened)->Has("lm_head"));
}

TEST(GgufCheckpointTest, RopeFreqsDivideTheFrequencies) {
  GgufBytes file = Llama();
  file.tensors.push_back(GgufF32("rope_freqs.weight", {4}, {1, 2, 4, 8}));
  const auto opened = Open(file);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_THAT((*opened)->config().inverse_frequencies,
              ElementsAre(1.0f, ::testing::FloatEq(0.05f), ::testing::FloatEq(0.0025f),
                          ::testing::FloatEq(0.000125f)));
  file.tensors.back() = GgufF32("rope_freqs.weight", {4}, {1, 2, 0, 8});
  EXPECT_THAT(Refusal(file), HasSubstr("rope_freqs.weight[2] is 0, expected a positive number"));
  file.tensors.back() = GgufF32("rope_freqs.weight", {3}, {1, 2, 4});
  EXPECT_THAT(Refusal(file), HasSubstr("expected one dimension of 4 unquantized values"));
}

TEST(GgufCheckpointTest, LinearScalingDividesTheFrequencies) {
  const std::vector<float> unscaled = (*Open(Llama()))->config().inverse_frequencies;
  std::vector<float> divided;
  for (const float frequency : unscaled) divided.push_back(frequency / 4);
  auto frequencies = [](const Strings& keys) {
    const auto opened = Open(WithKeys(keys));
    return opened.ok() ? (*opened)->config().inverse_frequencies : std::vector<float>();
  };
  const std::string factor = GgufKey("llama.rope.scaling.factor", 4.0f);
  const std::string kind = "llama.rope.scaling.type";
  EXPECT_EQ(frequencies({factor}), divided);
  EXPECT_EQ(frequencies({factor, GgufKey(kind, std::string("linear"))}), divided);
  EXPECT_EQ(frequencies({factor, GgufKey(kind, std::string("none"))}), unscaled);
  EXPECT_EQ(frequencies({GgufKey("llama.rope.scaling.factor", 0.0f)}), unscaled);
  EXPECT_THAT(Refusal(WithKeys({factor, GgufKey(kind, std::string("yarn"))})),
              HasSubstr("llama.rope.scaling.type is \"yarn\", which is not supported (none and "
                        "linear are)"));
  EXPECT_THAT(Refusal(WithKeys({GgufKey("llama.rope.scaling.factor", 1e-30f)})),
              HasSubstr("expected 0 or at least 0.001"));
  // What files called the factor before.
  EXPECT_THAT(Refusal(WithKeys({GgufKey("llama.rope.scale_linear", 4.0f)})),
              HasSubstr("llama.rope.scale_linear is 4.0, which is not supported"));
}

TEST(GgufCheckpointTest, TokenizerComesFromMetadata) {
  const auto opened =
      Open(WithKeys({GgufKey("tokenizer.ggml.model", std::string("gpt2")),
                     GgufKey("tokenizer.ggml.pre", std::string("llama-bpe")),
                     GgufKey("tokenizer.ggml.tokens", Strings{"a", "b", "ab", "<s>", "</s>"}),
                     GgufKey("tokenizer.ggml.token_type", std::vector<int32_t>{1, 1, 1, 3, 3}),
                     GgufKey("tokenizer.ggml.merges", Strings{"a b"}),
                     GgufKey("tokenizer.ggml.bos_token_id", uint32_t{3}),
                     GgufKey("tokenizer.ggml.eos_token_id", uint32_t{4}),
                     GgufKey("tokenizer.ggml.eot_token_id", uint32_t{2}),
                     GgufKey("tokenizer.ggml.eom_token_id", uint32_t{4}),
                     GgufKey("tokenizer.chat_template", std::string("{{ messages }}"))}));
  ASSERT_TRUE(opened.ok()) << opened.status();
  const TokenizerSource& source = (*opened)->tokenizer_source();
  EXPECT_EQ(source.kind, TokenizerSource::Kind::kGguf);
  EXPECT_EQ(source.gguf.model, "gpt2");
  EXPECT_EQ(source.gguf.pre, "llama-bpe");
  EXPECT_THAT(source.gguf.tokens, ElementsAre("a", "b", "ab", "<s>", "</s>"));
  EXPECT_THAT(source.gguf.types, ElementsAre(1, 1, 1, 3, 3));
  EXPECT_THAT(source.gguf.merges, ElementsAre("a b"));
  EXPECT_EQ(source.gguf.begin, 3);
  EXPECT_EQ(source.gguf.end, 4);
  EXPECT_TRUE(source.gguf.add_begin);  // Llama 3's files do not say so
  EXPECT_EQ(source.chat_template, "{{ messages }}");
  EXPECT_THAT((*opened)->config().end_tokens, ElementsAre(4, 2));
  EXPECT_EQ((*opened)->config().begin_token, 3);
}

TEST(GgufCheckpointTest, FileWithoutTokenizerSaysWhy) {
  const auto opened = Open(Llama());
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ((*opened)->tokenizer_source().kind, TokenizerSource::Kind::kNone);
  EXPECT_EQ((*opened)->tokenizer_source().reason,
            "the file has no tokenizer (tokenizer.ggml.model)");
}

TEST(GgufCheckpointTest, FusedQkvIsSplit) {
  GgufBytes file;
  file.keys = {GgufKey("general.architecture", std::string("gpt2")),
               GgufKey("gpt2.block_count", uint32_t{1}),
               GgufKey("gpt2.embedding_length", uint32_t{kHidden}),
               GgufKey("gpt2.context_length", uint32_t{4}),
               GgufKey("gpt2.attention.head_count", uint32_t{kHeads})};
  std::vector<float> bias;
  for (int i = 0; i < 3 * kHidden; ++i) bias.push_back(static_cast<float>(i));
  file.tensors = {Matrix("token_embd.weight", kVocab, kHidden),
                  Matrix("blk.0.attn_qkv.weight", 3 * kHidden, kHidden),
                  GgufF32("blk.0.attn_qkv.bias", {3 * kHidden}, bias)};
  const auto opened = Open(file);
  ASSERT_TRUE(opened.ok()) << opened.status();
  const auto key = (*opened)->OpenMatrix("layers.0.attention.k");
  ASSERT_TRUE(key.ok()) << key.status();
  EXPECT_EQ(key->rows, kHidden);
  std::vector<float> row(kHidden);
  ASSERT_TRUE(key->read(1, 1, row.data()).ok());
  EXPECT_EQ(row[2], 1000.0f * (kHidden + 1) + 2);
  const auto value_bias = (*opened)->ReadVector("layers.0.attention.v.bias");
  ASSERT_TRUE(value_bias.ok()) << value_bias.status();
  EXPECT_EQ(value_bias->front(), 2.0f * kHidden);
  EXPECT_EQ(value_bias->size(), size_t{kHidden});
}

TEST(GgufCheckpointTest, MostlyQuantizedFileSaysSo) {
  GgufBytes file = Llama();
  // One block of q4_1 a row of 32: scale 1, minimum -8, codes 0x21.
  const std::string block = Raw(uint16_t{0x3C00}) + Raw(uint16_t{0xC800}) + std::string(16, '\x21');
  std::string rows;
  for (int i = 0; i < 4096; ++i) rows += block;
  file.tensors.push_back({"output.weight", {32, 4096}, 3, rows});
  const auto opened = Open(file);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ((*opened)->source(), "q4_1 (dequantized)");
  EXPECT_TRUE((*opened)->source_is_quantized());
  const auto head = (*opened)->OpenMatrix("lm_head");
  ASSERT_TRUE(head.ok()) << head.status();
  std::vector<float> values(32);
  ASSERT_TRUE(head->read(4095, 1, values.data()).ok());
  EXPECT_EQ(values.front(), -7.0f);
  EXPECT_EQ(values.back(), -6.0f);
}

TEST(GgufCheckpointTest, WrongMetadataIsRefusedByKey) {
  EXPECT_THAT(Refusal(Replacing("general.architecture",
                                GgufKey("general.architecture", std::string("mamba")))),
              HasSubstr("general.architecture mamba is not supported; these are: llama, gpt2"));
  EXPECT_THAT(Refusal(Replacing("llama.block_count", GgufKey("x", uint32_t{1}))),
              HasSubstr("llama.block_count is not there"));
  EXPECT_THAT(
      Refusal(Replacing("llama.attention.head_count_kv",
                        GgufKey("llama.attention.head_count_kv", std::vector<int32_t>{1, 1}))),
      HasSubstr("llama.attention.head_count_kv is [1,1], expected a whole number"));
  EXPECT_THAT(Refusal(Replacing("llama.attention.head_count",
                                GgufKey("llama.attention.head_count", uint32_t{0}))),
              HasSubstr("llama.attention.head_count is 0, expected"));
  EXPECT_THAT(Refusal(WithKeys({GgufKey("llama.expert_count", uint32_t{8})})),
              HasSubstr("llama.expert_count is 8, which is not supported"));
  EXPECT_THAT(Refusal(WithKeys({GgufKey("tokenizer.ggml.eos_token_id", uint32_t{kVocab})})),
              HasSubstr("end token 5 is outside of the vocabulary of 5"));
  EXPECT_THAT(Refusal(WithKeys({GgufKey("tokenizer.ggml.model", std::string("gpt2"))})),
              HasSubstr("tokenizer.ggml.tokens is not there, expected at least one token"));
  EXPECT_THAT(Refusal(WithKeys({GgufKey("tokenizer.ggml.model", std::string("gpt2")),
                                GgufKey("tokenizer.ggml.tokens", std::vector<int32_t>{1})})),
              HasSubstr("tokenizer.ggml.tokens is [1], expected strings"));
  EXPECT_THAT(Refusal(WithKeys({GgufKey("tokenizer.chat_template", uint32_t{1})})),
              HasSubstr("tokenizer.chat_template is 1, expected a string"));
}

TEST(GgufCheckpointTest, WrongTensorsAreRefusedByName) {
  GgufBytes file = Llama();
  file.tensors.push_back(Ones("blk.0.attn_gate.weight", kHidden));
  EXPECT_THAT(Refusal(file), HasSubstr("blk.0.attn_gate.weight is not one that"));
  file = Llama();
  file.tensors[1] = Matrix("blk.0.attn_q.weight", kHeadDim + 1, kHidden);
  EXPECT_THAT(Refusal(file),
              HasSubstr("blk.0.attn_q.weight has 9 outputs, expected a multiple of the 8"));
  file = Llama();
  file.tensors[0].dims = {kHidden, kVocab, 1};
  EXPECT_THAT(Refusal(file), HasSubstr("token_embd.weight"));
  file = Llama();
  file.tensors.push_back({"blk.0.attn_v.bias", {32}, 2, std::string(18, 'x')});
  EXPECT_NE(Refusal(file), "");
}

// The first half is there: enough to open it, not to read the last tensor.
TEST(GgufCheckpointTest, FileCutAfterOpeningIsAnError) {
  const ModelFolder folder;
  const std::string path = folder.path() + "/model.gguf";
  const std::string bytes = Llama().Bytes();
  folder.Write("model.gguf", bytes);
  const auto opened = Checkpoint::Open(path);
  ASSERT_TRUE(opened.ok()) << opened.status();
  std::filesystem::resize_file(path, bytes.size() / 2);
  EXPECT_THAT((*opened)->ReadVector("final_norm.weight").status().message(),
              HasSubstr(" ends before byte"));
}

TEST(GgufCheckpointTest, HashIsThatOfTheFile) {
  const auto opened = Checkpoint::Open(testing::ModelPath("SmolLM2-135M-Instruct.Q4_1.gguf"));
  if (absl::IsNotFound(opened.status())) GTEST_SKIP() << "SmolLM2 is not in models/";
  ASSERT_TRUE(opened.ok()) << opened.status();
  const auto sha256 = (*opened)->WeightsSha256();
  ASSERT_TRUE(sha256.ok()) << sha256.status();
  EXPECT_EQ(*sha256, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53");
  EXPECT_EQ((*opened)->config().Parameters(), 134515008);
  EXPECT_EQ((*opened)->source(), "q4_1 (dequantized)");
}

}  // namespace
}  // namespace vernier
