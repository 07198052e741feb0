// config.json's quantization_config: what is read of it, and what is refused by name.
#include "engine/checkpoint/quant_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/testing/test_data.h"

namespace vernier {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;
using testing::ReadJson;
using testing::TestDataPath;

absl::StatusOr<QuantSettings> Read(const Json& quantization) {
  const Json config = {{"quantization_config", quantization}};
  return ReadQuantSettings(JsonFields(config, "config.json"));
}

Json OfModel(const std::string& model) {
  return ReadJson(TestDataPath("checkpoints/" + model + "/config.json"))["quantization_config"];
}

TEST(QuantConfigTest, WithoutTheKeyNothingIsQuantized) {
  const Json config = {{"hidden_size", 8}};
  const auto settings = ReadQuantSettings(JsonFields(config, "config.json"));
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->method, QuantMethod::kNone);
  EXPECT_EQ(Read(nullptr)->method, QuantMethod::kNone);
}

TEST(QuantConfigTest, EachMethodsOwnKeysAreRead) {
  EXPECT_EQ(Read(OfModel("tiny_qwen2_bnb_nf4"))->method, QuantMethod::kBitsAndBytes);
  EXPECT_EQ(Read({{"load_in_8bit", true}})->method, QuantMethod::kBitsAndBytes);

  const QuantSettings gptq = *Read(OfModel("tiny_qwen2_gptq_int4"));
  EXPECT_EQ(gptq.method, QuantMethod::kGptq);
  EXPECT_EQ(gptq.bits, 4);
  EXPECT_EQ(gptq.group, 16);
  EXPECT_TRUE(gptq.reordered);
  EXPECT_TRUE(gptq.less_one);
  const QuantSettings second = *Read(OfModel("tiny_qwen2_gptq_int8"));
  EXPECT_EQ(second.bits, 8);
  EXPECT_EQ(second.group, 0);
  EXPECT_FALSE(second.less_one);
  const QuantSettings old = *Read({{"quant_method", "gptq"}, {"bits", 4}, {"group_size", 128}});
  EXPECT_TRUE(old.less_one);

  EXPECT_EQ(Read(OfModel("tiny_qwen2_awq_int4"))->method, QuantMethod::kAwq);
  const QuantSettings packed = *Read(OfModel("tiny_qwen2_ct_int4"));
  EXPECT_EQ(packed.method, QuantMethod::kCompressedTensors);
  EXPECT_EQ(packed.bits, 4);
  EXPECT_EQ(packed.group, 16);
  EXPECT_TRUE(packed.zero_points);
  const QuantSettings bytes = *Read(OfModel("tiny_qwen2_ct_int8"));
  EXPECT_EQ(bytes.bits, 8);
  EXPECT_EQ(bytes.group, 0);
  EXPECT_FALSE(bytes.zero_points);
}

struct Refusal {
  const char* name;
  const char* model;  // whose quantization_config is changed
  std::function<void(Json&)> change;
  const char* message;  // after "config.json: quantization_config"
};

void ExpectRefused(const std::vector<Refusal>& refusals, absl::StatusCode code) {
  for (const Refusal& refusal : refusals) {
    SCOPED_TRACE(refusal.name);
    Json quantization = OfModel(refusal.model);
    refusal.change(quantization);
    const absl::Status status = Read(quantization).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr(std::string("config.json: quantization_config") + refusal.message));
  }
}

TEST(QuantConfigTest, WhatIsNotSupportedIsNamed) {
  const char* bnb = "tiny_qwen2_bnb_nf4";
  const char* gptq = "tiny_qwen2_gptq_int4";
  const char* awq = "tiny_qwen2_awq_int4";
  const char* ct = "tiny_qwen2_ct_int8";
  ExpectRefused(
      {{"method", gptq, [](Json& j) { j["quant_method"] = "hqq"; },
        ": quant_method is \"hqq\", which is not supported (bitsandbytes, gptq, awq and "
        "compressed-tensors are)"},
       {"no method", gptq, [](Json& j) { j.erase("quant_method"); }, ": quant_method is not there"},
       {"fp4", bnb, [](Json& j) { j["bnb_4bit_quant_type"] = "fp4"; },
        ": bnb_4bit_quant_type is \"fp4\", which is not supported (nf4 is)"},
       {"fp4 by default", bnb, [](Json& j) { j.erase("bnb_4bit_quant_type"); },
        ": bnb_4bit_quant_type is not there"},
       {"bits", gptq, [](Json& j) { j["bits"] = 3; },
        ": bits is 3, which is not supported (4 and 8 are)"},
       {"format", gptq, [](Json& j) { j["checkpoint_format"] = "marlin"; },
        ": checkpoint_format is \"marlin\""},
       {"dynamic", gptq,
        [](Json& j) {
          j["dynamic"] = {{"+:lm_head", {{"bits", 8}}}};
        },
        ": dynamic is {"},
       {"words", gptq, [](Json& j) { j["pack_dtype"] = "int16"; }, ": pack_dtype is \"int16\""},
       {"awq bits", awq, [](Json& j) { j["bits"] = 8; }, ": bits is 8"},
       {"awq version", awq, [](Json& j) { j["version"] = "GEMV"; }, ": version is \"GEMV\""},
       {"awq symmetric", awq, [](Json& j) { j["zero_point"] = false; }, ": zero_point is false"},
       {"ct format", ct, [](Json& j) { j["format"] = "float-quantized"; },
        ": format is \"float-quantized\""},
       {"ct groups", ct, [](Json& j) { j["config_groups"]["b"] = j["config_groups"]["group_0"]; },
        ": config_groups is {"},
       {"ct strategy", ct,
        [](Json& j) { j["config_groups"]["group_0"]["weights"]["strategy"] = "tensor"; },
        ": config_groups: group_0: weights: strategy is \"tensor\""},
       {"ct floats", ct,
        [](Json& j) { j["config_groups"]["group_0"]["weights"]["type"] = "float"; },
        ": config_groups: group_0: weights: type is \"float\""},
       {"ct static activations", ct,
        [](Json& j) {
          j["config_groups"]["group_0"]["input_activations"] = {{"dynamic", false}};
        },
        ": config_groups: group_0: input_activations is {\"dynamic\":false}"},
       {"ct cache", ct,
        [](Json& j) {
          j["kv_cache_scheme"] = {{"num_bits", 8}};
        },
        ": kv_cache_scheme is {"},
       {"ct sparse", ct,
        [](Json& j) {
          j["sparsity_config"] = {{"format", "sparse-bitmask"}};
        },
        ": sparsity_config: format is \"sparse-bitmask\""},
       {"ct rotated", ct,
        [](Json& j) {
          j["transform_config"] = {{"config_groups", {{"a", 1}}}};
        },
        ": transform_config is {"}},
      absl::StatusCode::kUnimplemented);
}

TEST(QuantConfigTest, WhatIsWrongIsNamed) {
  const char* bnb = "tiny_qwen2_bnb_nf4";
  const char* gptq = "tiny_qwen2_gptq_int4";
  const char* ct = "tiny_qwen2_ct_int8";
  ExpectRefused(
      {{"list", gptq, [](Json& j) { j = Json::array(); }, " is [], expected an object"},
       {"method's kind", gptq, [](Json& j) { j["quant_method"] = 4; }, ": quant_method is 4"},
       {"both", bnb, [](Json& j) { j["load_in_8bit"] = true; },
        ": load_in_4bit is true, expected true, or false with load_in_8bit true"},
       {"no bits", gptq, [](Json& j) { j.erase("bits"); }, ": bits is not there"},
       {"bits' kind", gptq, [](Json& j) { j["bits"] = "4"; }, ": bits is \"4\""},
       {"group 0", gptq, [](Json& j) { j["group_size"] = 0; },
        ": group_size is 0, expected -1 or at least 1"},
       {"group", gptq, [](Json& j) { j["group_size"] = -2; }, ": group_size is -2"},
       {"huge group", gptq, [](Json& j) { j["group_size"] = int64_t{1} << 62; }, ": group_size is"},
       {"ct no groups", ct, [](Json& j) { j["config_groups"] = Json::object(); },
        ": config_groups is {}"},
       {"ct group's kind", ct, [](Json& j) { j["config_groups"]["group_0"] = {"Linear"}; },
        ": config_groups: group_0 is not an object"},
       {"ct no weights", ct, [](Json& j) { j["config_groups"]["group_0"].erase("weights"); },
        ": config_groups: group_0: weights is not there"},
       {"ct sparsity's kind", ct, [](Json& j) { j["sparsity_config"] = 1; },
        ": sparsity_config is 1, expected an object"}},
      absl::StatusCode::kInvalidArgument);
}

// Nothing of them is in the file: the weights are what they say.
TEST(QuantConfigTest, ActivationsThatAreQuantizedAsTheModelRunsAreLeftAlone) {
  Json quantization = OfModel("tiny_qwen2_ct_int8");
  quantization["config_groups"]["group_0"]["input_activations"] = {{"dynamic", true}};
  EXPECT_TRUE(Read(quantization).ok()) << Read(quantization).status();
}

}  // namespace
}  // namespace vernier
