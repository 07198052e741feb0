// config.json into ModelConfig: every field, every default, and what is refused by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "engine/checkpoint/hf_config.h"
#include "engine/checkpoint/read_config.h"
#include "tests/engine/checkpoint/model_folder.h"
#include "tests/testing/test_data.h"

namespace vernier {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Json = nlohmann::json;
using testing::ModelFolder;
using testing::SmallLlamaConfig;
using testing::TestDataPath;

absl::StatusOr<ModelConfig> Read(const Json& config, const std::string& generation = "") {
  const ModelFolder folder;
  folder.Write("config.json", config.dump());
  if (!generation.empty()) folder.Write("generation_config.json", generation);
  absl::StatusOr<HfConfig> read = ReadHfConfig(folder.path());
  if (!read.ok()) return read.status();
  return read->config;
}

TEST(ConfigTest, LlamaFieldsAreRead) {
  const auto config = Read(SmallLlamaConfig());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->architecture, "llama");
  EXPECT_EQ(config->num_layers, 1);
  EXPECT_EQ(config->hidden, 8);
  EXPECT_EQ(config->intermediate, 12);
  EXPECT_EQ(config->vocab, 16);
  EXPECT_EQ(config->context, 32);
  EXPECT_EQ(config->attention.num_heads, 2);
  EXPECT_EQ(config->attention.num_kv_heads, 1);
  EXPECT_EQ(config->attention.head_dim, 4);
  EXPECT_EQ(config->attention.scale, 0.5f);
  EXPECT_EQ(config->norm, NormKind::kRms);
  EXPECT_EQ(config->norm_epsilon, 1e-5f);
  EXPECT_EQ(config->activation, ActivationKind::kSilu);
  EXPECT_TRUE(config->gated_mlp);
  EXPECT_FALSE(config->learned_positions);
  EXPECT_TRUE(config->tied_lm_head);
  EXPECT_THAT(config->inverse_frequencies, ElementsAre(1.0f, 0.01f));
  EXPECT_THAT(config->end_tokens, ElementsAre(2));
  EXPECT_EQ(config->begin_token, 1);
}

TEST(ConfigTest, DefaultsAreTransformers) {
  Json json = SmallLlamaConfig();
  for (const char* key : {"num_key_value_heads", "rms_norm_eps", "hidden_act", "bos_token_id",
                          "eos_token_id", "tie_word_embeddings"}) {
    json.erase(key);
  }
  json["head_dim"] = nullptr;
  const auto config = Read(json);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->attention.num_kv_heads, 2);
  EXPECT_EQ(config->attention.head_dim, 4);
  EXPECT_EQ(config->norm_epsilon, 1e-6f);
  EXPECT_FALSE(config->tied_lm_head);
  EXPECT_THAT(config->end_tokens, IsEmpty());
  EXPECT_EQ(config->begin_token, -1);
}

TEST(ConfigTest, Gpt2FieldsAreRead) {
  const auto read = ReadHfConfig(TestDataPath("checkpoints/tiny_gpt2"));
  ASSERT_TRUE(read.ok()) << read.status();
  const ModelConfig& config = read->config;
  EXPECT_EQ(config.architecture, "gpt2");
  EXPECT_EQ(config.intermediate, 4 * 48);
  EXPECT_EQ(config.context, 64);
  EXPECT_EQ(config.norm, NormKind::kLayer);
  EXPECT_EQ(config.activation, ActivationKind::kGeluTanh);
  EXPECT_FALSE(config.gated_mlp);
  EXPECT_TRUE(config.learned_positions);
  EXPECT_TRUE(config.tied_lm_head);
  EXPECT_THAT(config.inverse_frequencies, IsEmpty());
}

TEST(ConfigTest, EndTokensOfGenerationConfigWin) {
  const Json json = SmallLlamaConfig();
  EXPECT_THAT(Read(json, R"({"eos_token_id": [3, 4]})")->end_tokens, ElementsAre(3, 4));
  EXPECT_THAT(Read(json, R"({"eos_token_id": 5})")->end_tokens, ElementsAre(5));
  EXPECT_THAT(Read(json, R"({"do_sample": true})")->end_tokens, ElementsAre(2));
  EXPECT_THAT(std::string(Read(json, R"({"eos_token_id": "x"})").status().message()),
              HasSubstr("generation_config.json: eos_token_id is \"x\", expected a token id"));
  EXPECT_THAT(std::string(Read(json, "{").status().message()), HasSubstr("is not JSON"));
}

TEST(ConfigTest, ParametersAreThePublishedOnes) {
  for (const auto& [model, parameters] : std::vector<std::pair<std::string, int64_t>>{
           {"stories260K/hf", 260032}, {"gpt-nano-sort/hf", 85728}}) {
    const auto read = ReadHfConfig(TestDataPath(model));
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->config.Parameters(), parameters) << model;
  }
}

// As their config.json has them; the sums are those that the published weight files have.
struct Published {
  const char* name;
  const char* hf_class;
  const char* model_type;
  int64_t hidden, intermediate, layers, heads, kv_heads, head_dim, vocab;
  bool tied;
  int64_t parameters;
};
constexpr Published kPublished[] = {
    {"TinyLlama 1.1B", "LlamaForCausalLM", "llama", 2048, 5632, 22, 32, 4, 64, 32000, false,
     1100048384},
    {"SmolLM2 135M", "LlamaForCausalLM", "llama", 576, 1536, 30, 9, 3, 64, 49152, true, 134515008},
    {"Mistral 7B", "MistralForCausalLM", "mistral", 4096, 14336, 32, 32, 8, 128, 32000, false,
     7241732096},
    {"Qwen2.5 0.5B", "Qwen2ForCausalLM", "qwen2", 896, 4864, 24, 14, 2, 64, 151936, true,
     494032768},
    {"Qwen3 0.6B", "Qwen3ForCausalLM", "qwen3", 1024, 3072, 28, 16, 8, 128, 151936, true,
     596049920},
    {"Gemma 3 270M", "Gemma3ForCausalLM", "gemma3_text", 640, 2048, 18, 4, 1, 256, 262144, true,
     268098176},
    {"Gemma 3 1B", "Gemma3ForCausalLM", "gemma3_text", 1152, 6912, 26, 4, 1, 256, 262144, true,
     999885952},
};

TEST(ConfigTest, EveryArchitectureHasThePublishedParameters) {
  for (const Published& model : kPublished) {
    SCOPED_TRACE(model.name);
    const auto config = Read({{"architectures", {model.hf_class}},
                              {"model_type", model.model_type},
                              {"hidden_size", model.hidden},
                              {"intermediate_size", model.intermediate},
                              {"num_hidden_layers", model.layers},
                              {"num_attention_heads", model.heads},
                              {"num_key_value_heads", model.kv_heads},
                              {"head_dim", model.head_dim},
                              {"vocab_size", model.vocab},
                              {"max_position_embeddings", 2048},
                              {"tie_word_embeddings", model.tied}});
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->Parameters(), model.parameters);
  }
}

Json SmallConfigOf(const char* hf_class, const char* model_type) {
  Json json = SmallLlamaConfig();
  json["architectures"] = {hf_class};
  json["model_type"] = model_type;
  return json;
}

TEST(ConfigTest, AMistralHasAWindowUnlessItSaysNull) {
  Json json = SmallConfigOf("MistralForCausalLM", "mistral");
  EXPECT_EQ(Read(json)->window, 4096);
  json["sliding_window"] = 12;
  const auto windowed = Read(json);
  ASSERT_TRUE(windowed.ok()) << windowed.status();
  EXPECT_EQ(windowed->window, 12);
  EXPECT_THAT(windowed->windowed_layers, ElementsAre(true));
  EXPECT_THAT(windowed->window_inverse_frequencies, IsEmpty());
  json["sliding_window"] = nullptr;
  const auto whole = Read(json);
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(whole->window, 0);
  EXPECT_FALSE(whole->HasWindow(0));
}

TEST(ConfigTest, AQwenWithAWindowIsRefused) {
  Json json = SmallConfigOf("Qwen2ForCausalLM", "qwen2");
  json["sliding_window"] = 4096;  // as published, and not used
  json["use_sliding_window"] = false;
  json["layer_types"] = {"full_attention"};
  const auto config = Read(json);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->window, 0);
  EXPECT_TRUE(config->qkv_biases);
  json["layer_types"] = {"sliding_attention"};
  EXPECT_THAT(std::string(Read(json).status().message()), HasSubstr("layer_types is"));
  json["use_sliding_window"] = true;
  EXPECT_THAT(std::string(Read(json).status().message()), HasSubstr("use_sliding_window is true"));
}

// As google/gemma-3-1b-it's, written by transformers 4.
Json SmallGemma3Config() {
  Json json = SmallConfigOf("Gemma3ForCausalLM", "gemma3_text");
  json.erase("hidden_act");
  json["hidden_activation"] = "gelu_pytorch_tanh";
  json["num_hidden_layers"] = 7;
  json["head_dim"] = 4;
  json["query_pre_attn_scalar"] = 16;
  json["sliding_window"] = 5;
  json["sliding_window_pattern"] = 3;
  json["rope_theta"] = 10000.0;
  json["rope_local_base_freq"] = 100.0;
  json["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 8.0}};
  return json;
}

TEST(ConfigTest, Gemma3FieldsAreRead) {
  const auto config = Read(SmallGemma3Config());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->activation, ActivationKind::kGeluTanh);
  EXPECT_EQ(config->attention.scale, 0.25f);
  EXPECT_EQ(config->attention.window, 0);
  EXPECT_EQ(config->window, 5);
  EXPECT_THAT(config->windowed_layers, ElementsAre(true, true, false, true, true, false, true));
  EXPECT_THAT(config->inverse_frequencies, ElementsAre(0.125f, 0.00125f));
  EXPECT_THAT(config->window_inverse_frequencies, ElementsAre(1.0f, 0.1f));
  EXPECT_EQ(config->embed_scale, std::sqrt(8.0f));
  EXPECT_EQ(config->soft_cap, 0);
  EXPECT_TRUE(config->head_norms);
  EXPECT_TRUE(config->post_norms);
}

TEST(ConfigTest, Gemma3DefaultsAreTransformers) {
  Json json = SmallGemma3Config();
  for (const char* key : {"head_dim", "query_pre_attn_scalar", "sliding_window", "rope_theta",
                          "sliding_window_pattern", "rope_local_base_freq", "rope_scaling",
                          "hidden_activation", "tie_word_embeddings"}) {
    json.erase(key);
  }
  const auto config = Read(json);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->attention.head_dim, 256);
  EXPECT_EQ(config->attention.scale, 1 / 16.0f);
  EXPECT_EQ(config->window, 4096);
  EXPECT_THAT(config->windowed_layers, ElementsAre(true, true, true, true, true, false, true));
  EXPECT_EQ(config->inverse_frequencies, InverseFrequencies(1e6, 256));
  EXPECT_EQ(config->window_inverse_frequencies, InverseFrequencies(1e4, 256));
  EXPECT_EQ(config->activation, ActivationKind::kGeluTanh);
  EXPECT_TRUE(config->tied_lm_head);
}

// GGUF files do not say that the 27B divides q.k by another root than the others.
TEST(ConfigTest, Gemma3Of62LayersScalesByHiddenOverHeads) {
  const Architecture& gemma = **ArchitectureOfGguf("gemma3");
  Json json = {{"gemma3.block_count", 62},
               {"gemma3.embedding_length", 5376},
               {"gemma3.context_length", 131072},
               {"gemma3.attention.head_count", 32},
               {"gemma3.attention.key_length", 128}};
  const auto scale = [&] {
    return ReadConfig(gemma, gemma.gguf_keys, JsonFields(json, "file", "gemma3."))->attention.scale;
  };
  EXPECT_EQ(scale(), static_cast<float>(1 / std::sqrt(168.0)));
  json["gemma3.block_count"] = 48;
  EXPECT_EQ(scale(), static_cast<float>(1 / std::sqrt(128.0)));
}

TEST(ConfigTest, Gemma3sOddWindowsAreRefused) {
  const std::pair<Json, const char*> cases[] = {
      {{{"sliding_window", nullptr}}, "sliding_window is not there, which is not supported"},
      {{{"sliding_window", -1}}, "sliding_window is -1, expected a whole number from 0"},
      {{{"sliding_window_pattern", 0}}, "sliding_window_pattern is 0"},
      {{{"layer_types", {"full_attention"}}}, "layer_types is"},
      {{{"layer_types", "full_attention"}}, "expected a list of 7 words"},
      {{{"layer_types", std::vector<int>(7, 1)}}, "full_attention and sliding_attention are"},
      {{{"attn_logit_softcapping", 50.0}}, "attn_logit_softcapping is 50"},
      {{{"use_bidirectional_attention", true}}, "use_bidirectional_attention is true"},
      {{{"final_logit_softcapping", -1}}, "final_logit_softcapping is -1"},
      {{{"query_pre_attn_scalar", 0}}, "query_pre_attn_scalar is 0"},
      {{{"rope_local_base_freq", 0}}, "rope_local_base_freq is 0"}};
  for (const auto& [change, says] : cases) {
    Json json = SmallGemma3Config();
    json.update(change);
    EXPECT_THAT(std::string(Read(json).status().message()), HasSubstr(says));
  }
}

// Llama-3.2-1B's: theta 500000, 64 dimensions, factor 32. Recorded from transformers 5.24.0
// (modeling_rope_utils), where i is below (0, 14), on (15, 17) and above (18, 31) the ramp.
TEST(ConfigTest, Llama3ScalingIsTransformers) {
  Json json = SmallLlamaConfig();
  json["head_dim"] = 64;
  json["rope_theta"] = 500000.0;
  json["rope_scaling"] = {{"rope_type", "llama3"},
                          {"factor", 32.0},
                          {"low_freq_factor", 1.0},
                          {"high_freq_factor", 4.0},
                          {"original_max_position_embeddings", 8192}};
  const auto config = Read(json);
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_EQ(config->inverse_frequencies.size(), 32u);
  const std::pair<size_t, float> recorded[] = {{0, 1.0f},
                                               {1, 0.663601279f},
                                               {14, 0.00321144611f},
                                               {15, 0.00129054801f},
                                               {16, 0.000429556705f},
                                               {17, 9.70828623e-05f},
                                               {18, 1.94616387e-05f},
                                               {31, 9.41830649e-08f}};
  for (const auto& [i, frequency] : recorded) {
    // Both sides round an intermediate or two to fp32.
    EXPECT_NEAR(config->inverse_frequencies[i], frequency, 4 * frequency * 0x1p-24f) << i;
  }

  // The same as transformers 5 writes it.
  json["rope_parameters"] = json["rope_scaling"];
  json["rope_parameters"]["rope_theta"] = 500000.0;
  json.erase("rope_scaling");
  json.erase("rope_theta");
  const auto written_anew = Read(json);
  ASSERT_TRUE(written_anew.ok()) << written_anew.status();
  EXPECT_EQ(written_anew->inverse_frequencies, config->inverse_frequencies);
}

struct Refused {
  const char* name;
  std::function<void(Json&)> change;
  const char* says;
};

void ExpectRefused(const std::vector<Refused>& cases, absl::StatusCode code) {
  for (const Refused& one : cases) {
    SCOPED_TRACE(one.name);
    Json json = SmallLlamaConfig();
    one.change(json);
    const absl::Status status = Read(json).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(one.says));
    EXPECT_THAT(std::string(status.message()), HasSubstr("config.json"));
  }
}

TEST(ConfigTest, WhatIsNotSupportedIsNamed) {
  ExpectRefused(
      {{"class", [](Json& j) { j["architectures"] = {"MambaForCausalLM"}; },
        "architecture MambaForCausalLM (model_type llama) is not supported; these are: "
        "LlamaForCausalLM, GPT2LMHeadModel"},
       {"model type", [](Json& j) { j["model_type"] = "mistral"; }, "model_type mistral"},
       {"activation", [](Json& j) { j["hidden_act"] = "relu2"; }, "hidden_act is \"relu2\""},
       {"attention bias", [](Json& j) { j["attention_bias"] = true; },
        "attention_bias is true, which is not supported (only false is)"},
       {"mlp bias", [](Json& j) { j["mlp_bias"] = true; }, "mlp_bias is true"},
       {"window", [](Json& j) { j["sliding_window"] = 4096; }, "sliding_window is 4096"},
       {"partial rotary", [](Json& j) { j["partial_rotary_factor"] = 0.5; },
        "partial_rotary_factor is 0.5"},
       {"rope",
        [](Json& j) {
          j["rope_scaling"] = {{"type", "dynamic"}, {"factor", 2.0}};
        },
        "rope_scaling: type is \"dynamic\", which is not supported (default, linear and llama3 "
        "are)"},
       {"yarn",
        [](Json& j) {
          j["rope_parameters"] = {{"rope_type", "yarn"}};
        },
        "rope_parameters: rope_type is \"yarn\""}},
      absl::StatusCode::kUnimplemented);
}

TEST(ConfigTest, ImpossibleValuesAreRefused) {
  ExpectRefused(
      {{"no class", [](Json& j) { j.erase("architectures"); },
        "architectures is not there, expected a list of one name"},
       {"two classes",
        [](Json& j) {
          j["architectures"] = {"a", "b"};
        },
        "architectures is"},
       {"missing", [](Json& j) { j.erase("hidden_size"); },
        "hidden_size is not there, expected a whole number from 1 to 1048576"},
       {"text", [](Json& j) { j["hidden_size"] = "8"; }, "hidden_size is \"8\", expected a whole"},
       {"fraction", [](Json& j) { j["vocab_size"] = 16.5; }, "vocab_size is 16.5"},
       {"negative", [](Json& j) { j["num_hidden_layers"] = -1; }, "num_hidden_layers is -1"},
       {"zero", [](Json& j) { j["num_attention_heads"] = 0; }, "num_attention_heads is 0"},
       {"huge", [](Json& j) { j["intermediate_size"] = int64_t{1} << 40; }, "intermediate_size is"},
       {"past int64", [](Json& j) { j["vocab_size"] = ~uint64_t{0}; },
        "vocab_size is 18446744073709551615"},
       {"no vocabulary", [](Json& j) { j.erase("vocab_size"); }, "vocab_size is not there"},
       {"heads", [](Json& j) { j["num_attention_heads"] = 3; },
        "num_attention_heads is 3, expected a divisor of the hidden size 8"},
       {"groups", [](Json& j) { j["num_key_value_heads"] = 4; },
        "num_key_value_heads is 4, expected a divisor of the 2 heads"},
       {"odd heads", [](Json& j) { j["head_dim"] = 5; },
        "heads have 5 dimensions, expected an even number"},
       {"epsilon", [](Json& j) { j["rms_norm_eps"] = -1; }, "rms_norm_eps is -1"},
       {"theta", [](Json& j) { j["rope_theta"] = 0; }, "rope_theta is 0"},
       {"tied", [](Json& j) { j["tie_word_embeddings"] = "yes"; },
        "tie_word_embeddings is \"yes\", expected true or false"},
       {"end", [](Json& j) { j["eos_token_id"] = 16; },
        "end token 16 is outside of the vocabulary of 16"},
       {"begin", [](Json& j) { j["bos_token_id"] = 99; }, "begin token 99 is outside"},
       {"rope no object", [](Json& j) { j["rope_scaling"] = 2; }, "rope_scaling is 2"},
       {"rope lacks",
        [](Json& j) {
          j["rope_scaling"] = {{"rope_type", "llama3"}};
        },
        "rope_scaling: factor is not there"},
       {"deep",
        [](Json& j) {
          for (int i = 0; i < 40; ++i) j["x"] = Json::array({j["x"]});
        },
        "nests deeper than 32 levels"}},
      absl::StatusCode::kInvalidArgument);
}

TEST(ConfigTest, ALongValueIsCut) {
  Json json = SmallLlamaConfig();
  json["hidden_size"] = std::string(10000, 'x') + "\xff";
  EXPECT_LT(Read(Json::parse(json.dump(-1, ' ', false, Json::error_handler_t::replace)))
                .status()
                .message()
                .size(),
            400u);
}

TEST(ConfigTest, AMissingFileIsNotFound) {
  const ModelFolder folder;
  EXPECT_TRUE(absl::IsNotFound(ReadHfConfig(folder.path()).status()));
}

}  // namespace
}  // namespace vernier
