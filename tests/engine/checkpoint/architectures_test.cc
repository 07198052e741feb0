// Names of tensors: what the file calls them, what we do, and which are refused.
#include "engine/checkpoint/architectures.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

namespace vernier {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const Architecture& Row(absl::string_view name) { return **ArchitectureOfGguf(name); }

// Canonical names that the file's tensor makes; the status's text when it is refused.
std::vector<std::string> Names(absl::string_view architecture, FileKind kind,
                               absl::string_view file_name) {
  const auto uses = UsesOf(Row(architecture), kind, file_name);
  if (!uses.ok()) return {std::string(uses.status().message())};
  std::vector<std::string> names;
  for (const TensorUse& use : *uses) names.push_back(use.name);
  return names;
}

TEST(ArchitecturesTest, RowsHaveNamesOfTheirOwn) {
  for (const Architecture& architecture : Architectures()) {
    std::set<absl::string_view> names;
    for (const TensorRow& row : architecture.tensors) {
      EXPECT_TRUE(names.insert(row.name).second) << row.name;
      const bool layer = row.name.find("{i}") != absl::string_view::npos;
      EXPECT_EQ(row.hf_name.find("{i}") != absl::string_view::npos, layer) << row.name;
      EXPECT_EQ(row.gguf_name.find("{i}") != absl::string_view::npos, layer) << row.name;
    }
  }
}

TEST(ArchitecturesTest, ANameOfTheFileBecomesCanonical) {
  const auto hf = FileKind::kHuggingFace;
  EXPECT_THAT(Names("llama", hf, "model.embed_tokens.weight"), ElementsAre("embed"));
  EXPECT_THAT(Names("llama", hf, "model.layers.11.mlp.down_proj.weight"),
              ElementsAre("layers.11.mlp.down"));
  EXPECT_THAT(Names("llama", hf, "lm_head.weight"), ElementsAre("lm_head"));
  EXPECT_THAT(Names("llama", FileKind::kGguf, "blk.7.attn_norm.weight"),
              ElementsAre("layers.7.attention_norm.weight"));
  // The first published GPT-2 files have no prefix.
  EXPECT_THAT(Names("gpt2", hf, "h.0.ln_1.bias"), ElementsAre("layers.0.attention_norm.bias"));
  EXPECT_THAT(Names("gpt2", hf, "transformer.h.0.ln_1.bias"),
              ElementsAre("layers.0.attention_norm.bias"));
}

TEST(ArchitecturesTest, NormsOfGemmaLackOneInHuggingFaceFiles) {
  const auto uses = *UsesOf(Row("gemma3"), FileKind::kHuggingFace,
                            "model.layers.1.pre_feedforward_layernorm.weight");
  ASSERT_EQ(uses.size(), 1u);
  EXPECT_EQ(uses[0].name, "layers.1.mlp_norm.weight");
  for (const TensorRow& row : Row("gemma3").tensors) {
    EXPECT_EQ(row.hf_added, row.name.find("norm") == absl::string_view::npos ? 0 : 1) << row.name;
  }
}

TEST(ArchitecturesTest, GgufFilesOfMistralSayLlama) {
  EXPECT_TRUE(ArchitectureOfHf("mistral", "MistralForCausalLM").ok());
  const absl::Status status = ArchitectureOfGguf("mistral").status();
  EXPECT_TRUE(absl::IsUnimplemented(status));
  EXPECT_EQ(status.message(),
            "general.architecture mistral is not supported; these are: llama, gpt2, qwen2, qwen3, "
            "gemma3");
}

TEST(ArchitecturesTest, AFusedTensorHasThreeUses) {
  EXPECT_THAT(Names("gpt2", FileKind::kHuggingFace, "transformer.h.2.attn.c_attn.weight"),
              ElementsAre("layers.2.attention.q", "layers.2.attention.k", "layers.2.attention.v"));
  EXPECT_THAT(Names("gpt2", FileKind::kGguf, "blk.2.attn_qkv.bias"),
              ElementsAre("layers.2.attention.q.bias", "layers.2.attention.k.bias",
                          "layers.2.attention.v.bias"));
}

TEST(ArchitecturesTest, MasksAndTablesAreIgnored) {
  EXPECT_THAT(Names("gpt2", FileKind::kHuggingFace, "h.3.attn.bias"), IsEmpty());
  EXPECT_THAT(
      Names("llama", FileKind::kHuggingFace, "model.layers.3.self_attn.rotary_emb.inv_freq"),
      IsEmpty());
  EXPECT_THAT(Names("llama", FileKind::kGguf, "rope_freqs.weight"), IsEmpty());
}

TEST(ArchitecturesTest, ATensorThatNoRowKnowsIsRefused) {
  for (const char* name :
       {"model.layers.0.self_attn.q_norm.weight", "model.layers.0.self_attn.q_proj.bias",
        "model.layers.00.mlp.up_proj.weight", "model.layers.-1.mlp.up_proj.weight",
        "model.layers..mlp.up_proj.weight", "model.layers.0x.mlp.up_proj.weight",
        "model.layers.4096.mlp.up_proj.weight",
        "model.layers.99999999999999999999.mlp.up_proj.weight", "layers.{i}.mlp.up_proj.weight",
        ""}) {
    const auto uses = UsesOf(Row("llama"), FileKind::kHuggingFace, name);
    EXPECT_TRUE(absl::IsUnimplemented(uses.status())) << name;
    EXPECT_THAT(std::string(uses.status().message()), HasSubstr(name));
  }
}

TEST(ArchitecturesTest, FusedRowsAreDividedAsTheConfigSays) {
  const ModelConfig config{.attention = {.num_heads = 4, .num_kv_heads = 2, .head_dim = 8}};
  const auto uses = *UsesOf(Row("gpt2"), FileKind::kHuggingFace, "h.0.attn.c_attn.weight");
  ASSERT_EQ(uses.size(), 3u);
  const int64_t expected[][2] = {{0, 32}, {32, 16}, {48, 16}};
  for (size_t i = 0; i < 3; ++i) {
    const auto rows = RowsOf(config, uses[i], 64);
    ASSERT_TRUE(rows.ok()) << rows.status();
    EXPECT_EQ(rows->first, expected[i][0]);
    EXPECT_EQ(rows->count, expected[i][1]);
  }
  const absl::Status status = RowsOf(config, uses[1], 63).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("layers.0.attention.k has 63 outputs, expected 32 + 16 + 16"));
}

}  // namespace
}  // namespace vernier
