// Quantized Hugging Face folders: what they are told to be, and folders that are broken or hostile.
#include "engine/checkpoint/packed_matrices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "engine/checkpoint/checkpoint.h"
#include "tests/engine/checkpoint/edited_model.h"
#include "tests/testing/test_data.h"

namespace vernier {
namespace {

using testing::EditedModel;
using testing::EditedTensor;
using ::testing::HasSubstr;
using testing::TestDataPath;

const std::string kUp = "model.layers.0.mlp.up_proj";
const std::string kQuery = "model.layers.0.self_attn.q_proj";
const float kNan = std::numeric_limits<float>::quiet_NaN();

std::string Model(const std::string& layout) { return "checkpoints/" + layout; }

// Opens the folder and all of its matrices, as loading does.
absl::Status OpenAll(const std::string& path) {
  const auto opened = Checkpoint::Open(path);
  if (!opened.ok()) return opened.status();
  for (const TensorInfo& tensor : (*opened)->tensors()) {
    if (tensor.shape.size() != 2) continue;
    if (const absl::Status status = (*opened)->OpenMatrix(tensor.name).status(); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

TEST(PackedMatricesTest, TheSourceIsToldAsDequantized) {
  const std::pair<const char*, const char*> models[] = {
      {"tiny_qwen2_bnb_nf4", "bnb-nf4"},     {"tiny_qwen2_bnb_nf4_dq", "bnb-nf4-dq"},
      {"tiny_qwen2_bnb_int8", "bnb-int8"},   {"tiny_qwen2_gptq_int4", "gptq-int4"},
      {"tiny_qwen2_gptq_int8", "gptq-int8"}, {"tiny_qwen2_awq_int4", "awq-int4"},
      {"tiny_qwen2_ct_int8", "ct-int8"},     {"tiny_qwen2_ct_int4", "ct-int4"}};
  for (const auto& [model, type] : models) {
    SCOPED_TRACE(model);
    const auto opened = Checkpoint::Open(TestDataPath(Model(model)));
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_EQ((*opened)->source(), std::string(type) + " (dequantized)");
    EXPECT_TRUE((*opened)->source_is_quantized());
    std::map<std::string, int> types;
    int64_t bytes = 0;
    for (const TensorInfo& tensor : (*opened)->tensors()) {
      ++types[tensor.type];
      bytes += tensor.bytes;
    }
    EXPECT_EQ(types[type], 7);
    EXPECT_EQ(types["bf16"], 7);  // embedding, norms, biases
    EXPECT_LT(bytes, (*opened)->disk_bytes());
  }
}

// Names are of the tensors as they lie in the files, also where these are several.
TEST(PackedMatricesTest, PartsMayLieInDifferentFiles) {
  const EditedModel model(Model("tiny_qwen2_gptq_int4"));
  const auto whole = Checkpoint::Open(TestDataPath(Model("tiny_qwen2_gptq_int4")));
  const auto split = Checkpoint::Open(model.Write(/*second=*/".qzeros"));
  ASSERT_TRUE(split.ok()) << split.status();
  std::vector<float> a(32 * 96), b(32 * 96);
  const auto down = (*split)->OpenMatrix("layers.0.mlp.down");
  ASSERT_TRUE(down.ok()) << down.status();
  ASSERT_TRUE(down->read(0, 32, a.data()).ok());
  ASSERT_TRUE((*whole)->OpenMatrix("layers.0.mlp.down")->read(0, 32, b.data()).ok());
  EXPECT_EQ(a, b);
}

// modules_to_not_convert, ignore and llm_int8_skip_modules need not be read.
TEST(PackedMatricesTest, AMatrixThatIsThereUnpackedIsReadUnpacked) {
  for (const char* layout : {"tiny_qwen2_gptq_int4", "tiny_qwen2_awq_int4", "tiny_qwen2_ct_int4"}) {
    SCOPED_TRACE(layout);
    EditedModel model(Model(layout));
    std::erase_if(model.tensors,
                  [](const auto& tensor) { return tensor.first.starts_with(kUp + "."); });
    EditedTensor weight{"F32", {96, 32}, std::string(96 * 32 * 4, '\0')};
    weight.Set<float>(33, 1.5f);
    model.tensors[kUp + ".weight"] = weight;
    const auto opened = Checkpoint::Open(model.Write());
    ASSERT_TRUE(opened.ok()) << opened.status();
    std::vector<float> row(32);
    ASSERT_TRUE((*opened)->OpenMatrix("layers.0.mlp.up")->read(1, 1, row.data()).ok());
    EXPECT_EQ(row[1], 1.5f);
  }
}

// GPT-2's Conv1D is [inputs, outputs] in a file, but is transposed before it is quantized.
TEST(PackedMatricesTest, PartsOfAFusedConv1dAreRowsOfItsOutputs) {
  EditedModel model("checkpoints/tiny_gpt2");
  model.config["quantization_config"] = {{"load_in_8bit", true}};
  const std::string fused = "transformer.h.0.attn.c_attn";
  EditedTensor codes{"I8", {144, 48}, std::string(144 * 48, '\0')};
  for (size_t i = 0; i < codes.bytes.size(); ++i)
    codes.Set<int8_t>(i, static_cast<int8_t>(i % 255));
  EditedTensor row_max{"F32", {144}, std::string(144 * 4, '\0')};
  for (size_t i = 0; i < 144; ++i) row_max.Set<float>(i, 127.0f * static_cast<float>(i + 1));
  model.tensors[fused + ".weight"] = codes;
  model.tensors[fused + ".SCB"] = row_max;
  const auto opened = Checkpoint::Open(model.Write());
  ASSERT_TRUE(opened.ok()) << opened.status();
  int first = 0;
  for (const char* part : {"q", "k", "v"}) {
    const auto source = (*opened)->OpenMatrix(std::string("layers.0.attention.") + part);
    ASSERT_TRUE(source.ok()) << source.status();
    ASSERT_EQ(source->rows, 48);
    ASSERT_EQ(source->cols, 48);
    std::vector<float> values(48 * 48);
    ASSERT_TRUE(source->read(0, 48, values.data()).ok());
    for (int i = 0; i < 48 * 48; ++i) {
      const int at = first * 48 + i;
      const auto code = static_cast<int8_t>(at % 255);
      ASSERT_FLOAT_EQ(values[i], static_cast<float>(code * (at / 48 + 1))) << part << i;
    }
    first += 48;
  }
}

TEST(PackedMatricesTest, ABiasOfZerosThatNoLayerHasIsUnused) {
  EditedModel model(Model("tiny_qwen2_gptq_int4"));
  const std::string bias = "model.layers.0.mlp.down_proj.bias";
  ASSERT_TRUE(model.tensors.contains(bias));
  EXPECT_TRUE(OpenAll(model.Write()).ok()) << OpenAll(model.Write());
  model.tensors.at(bias).Set<uint16_t>(3, 0x3c00);
  const absl::Status status = OpenAll(model.Write());
  EXPECT_TRUE(absl::IsUnimplemented(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("tensor " + bias + " is not one that"));
}

struct Refusal {
  const char* name;
  const char* layout;
  std::function<void(EditedModel&)> change;
  std::string message;
};

void ExpectRefused(const std::vector<Refusal>& refusals, absl::StatusCode code) {
  for (const Refusal& refusal : refusals) {
    SCOPED_TRACE(refusal.name);
    EditedModel model(Model(refusal.layout));
    refusal.change(model);
    const absl::Status status = OpenAll(model.Write());
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("model.safetensors: tensor " + refusal.message));
  }
}

auto Quantization(const std::string& key, const nlohmann::json& value) {
  return [=](EditedModel& m) { m.config["quantization_config"][key] = value; };
}

auto Without(const std::string& tensor) {
  return [=](EditedModel& m) { ASSERT_EQ(m.tensors.erase(tensor), 1u); };
}

auto Shaped(const std::string& tensor, const std::vector<int64_t>& shape) {
  return [=](EditedModel& m) { m.tensors.at(tensor).shape = shape; };
}

template <typename T>
auto With(const std::string& tensor, size_t index, T value) {
  return [=](EditedModel& m) { m.tensors.at(tensor).Set<T>(index, value); };
}

auto State(const std::string& text) {
  return [=](EditedModel& m) {
    auto& state = m.tensors.at(kUp + ".weight.quant_state.bitsandbytes__nf4");
    state.bytes = text;
    state.shape = {static_cast<int64_t>(text.size())};
  };
}

TEST(PackedMatricesTest, F48BrokenBitsAndBytesIsRefused) {
  const std::string weight = kUp + ".weight";
  const std::string state = weight + ".quant_state.bitsandbytes__nf4";
  ExpectRefused(
      {{"no absmax", "tiny_qwen2_bnb_nf4", Without(weight + ".absmax"),
        state + " is there, but not " + weight + ".absmax, which belongs to it"},
       {"no state", "tiny_qwen2_bnb_nf4", Without(state),
        weight + ".absmax is there, but not " + state + ", which belongs to it"},
       {"no weight", "tiny_qwen2_bnb_int8", Without(weight),
        kUp + ".SCB is there, but not " + weight},
       {"negative absmax", "tiny_qwen2_bnb_nf4", With(weight + ".absmax", 3, -0.5f),
        weight + ".absmax[3] is -0.5, expected a finite number from 0"},
       {"NaN absmax", "tiny_qwen2_bnb_nf4", With(weight + ".absmax", 3, kNan),
        weight + ".absmax[3] is nan"},
       {"NaN nested absmax", "tiny_qwen2_bnb_nf4_dq", With(weight + ".nested_absmax", 0, kNan),
        weight + ".nested_absmax[0] is nan"},
       {"infinite code", "tiny_qwen2_bnb_nf4_dq", With(weight + ".nested_quant_map", 255, INFINITY),
        weight + ".nested_quant_map[255] is inf"},
       {"codebook", "tiny_qwen2_bnb_nf4", With(weight + ".quant_map", 8, 0.08f),
        weight + ".quant_map[8] is 0.08, expected NF4's 0.0795803"},
       {"absmax count", "tiny_qwen2_bnb_nf4", Shaped(weight + ".absmax", {12, 4}),
        weight + ".absmax has shape [12, 4], expected [48]"},
       {"nested count", "tiny_qwen2_bnb_nf4_dq", State(R"({"quant_type": "nf4", "blocksize": 64,
          "shape": [96, 32], "nested_blocksize": 16, "nested_offset": 0.1})"),
        weight + ".nested_absmax has shape [1], expected [3]"},
       {"nested without map", "tiny_qwen2_bnb_nf4_dq", Without(weight + ".nested_quant_map"),
        weight + ".absmax is U8, but there is no nested_absmax or no nested_quant_map"},
       {"state's text", "tiny_qwen2_bnb_nf4", State("nf4"), state + " is not JSON"},
       {"state's size", "tiny_qwen2_bnb_nf4", State(std::string(5000, ' ')),
        state + " has 5000 bytes, limit"},
       {"no shape", "tiny_qwen2_bnb_nf4", State(R"({"blocksize": 64})"),
        state + ": shape is not there"},
       {"huge shape", "tiny_qwen2_bnb_nf4",
        State(R"({"blocksize": 64, "shape": [1099511627776, 1099511627776]})"),
        weight +
            " has 1536 bytes, expected two codes a byte of the [1099511627776, 1099511627776]"},
       {"other shape", "tiny_qwen2_bnb_nf4", State(R"({"blocksize": 64, "shape": [96, 33]})"),
        weight + " has 1536 bytes"},
       {"block", "tiny_qwen2_bnb_nf4", State(R"({"blocksize": 0, "shape": [96, 32]})"),
        state + ": blocksize is 0"},
       {"offset", "tiny_qwen2_bnb_nf4_dq", State(R"({"blocksize": 64, "shape": [96, 32],
          "nested_blocksize": 256, "nested_offset": 1e60})"),
        state + ": nested_offset is 1e+60"},
       {"SCB count", "tiny_qwen2_bnb_int8", Shaped(kUp + ".SCB", {96, 1}),
        kUp + ".SCB has shape [96, 1], expected [96]"},
       {"SCB NaN", "tiny_qwen2_bnb_int8", With(kUp + ".SCB", 5, kNan), kUp + ".SCB[5] is nan"},
       {"codes' shape", "tiny_qwen2_bnb_int8", Shaped(weight, {3072}),
        weight + " has shape [3072], expected two dimensions"},
       {"codes' type", "tiny_qwen2_bnb_int8",
        [&](EditedModel& m) { m.tensors.at(weight).dtype = "U8"; },
        weight + " is U8, expected I8"}},
      absl::StatusCode::kInvalidArgument);
  ExpectRefused(
      {{"fp4", "tiny_qwen2_bnb_nf4",
        [&](EditedModel& m) { m.Rename(state, weight + ".quant_state.bitsandbytes__fp4"); },
        weight + ".quant_state.bitsandbytes__fp4 is of FP4"},
       {"order", "tiny_qwen2_bnb_int8", With<uint8_t>(kUp + ".weight_format", 0, 2),
        kUp + ".weight_format is 2, which is not supported (0, row by row, is)"}},
      absl::StatusCode::kUnimplemented);
}

TEST(PackedMatricesTest, F48BrokenGptqIsRefused) {
  ExpectRefused(
      {{"no zeros", "tiny_qwen2_gptq_int4", Without(kQuery + ".qzeros"),
        kQuery + ".qweight is there, but not " + kQuery + ".qzeros, which belongs to it"},
       {"no codes", "tiny_qwen2_gptq_int4", Without(kQuery + ".qweight"),
        kQuery + ".qzeros is there, but not " + kQuery + ".qweight, which belongs to it"},
       {"no order", "tiny_qwen2_gptq_int4", Without(kQuery + ".g_idx"),
        kQuery + ".qweight has groups of any inputs, but no tensor says which they are"},
       {"group", "tiny_qwen2_gptq_int4", With<int32_t>(kQuery + ".g_idx", 5, 2),
        kQuery + ".g_idx[5] is 2, expected 0 to 1"},
       {"negative group", "tiny_qwen2_gptq_int4", With<int32_t>(kQuery + ".g_idx", 31, -1),
        kQuery + ".g_idx[31] is -1, expected 0 to 1"},
       {"group size", "tiny_qwen2_gptq_int4", Quantization("group_size", 5),
        "model.layers.0.mlp.down_proj.qweight has 96 inputs, expected a multiple of the group_size "
        "5"},
       {"smaller groups", "tiny_qwen2_gptq_int4", Quantization("group_size", 8),
        "model.layers.0.mlp.down_proj.qzeros has shape [6, 4], expected [12, 4]"},
       {"bits", "tiny_qwen2_gptq_int4", Quantization("bits", 8),
        "model.layers.0.mlp.down_proj.g_idx has shape [96], expected [48]"},
       {"scales", "tiny_qwen2_gptq_int4", Shaped(kQuery + ".scales", {32, 2}),
        kQuery + ".scales has shape [32, 2], expected [2, 32]"},
       {"scale NaN", "tiny_qwen2_gptq_int4", With<uint16_t>(kQuery + ".scales", 7, 0x7e00),
        kQuery + ".scales[7] is nan, expected a finite number"},
       {"type", "tiny_qwen2_gptq_int4",
        [](EditedModel& m) { m.tensors.at(kQuery + ".qweight").dtype = "F32"; },
        kQuery + ".qweight is F32, expected I32"},
       {"scales' type", "tiny_qwen2_gptq_int4",
        [](EditedModel& m) { m.tensors.at(kQuery + ".scales").dtype = "I16"; },
        kQuery + ".scales is I16, expected F16 or BF16 or F32"},
       {"outputs", "tiny_qwen2_gptq_int4", Shaped(kQuery + ".qweight", {32, 4}),
        kQuery + ".g_idx has shape [32], expected [256]"},
       {"no values", "tiny_qwen2_gptq_int4",
        [](EditedModel& m) {
          m.tensors.at(kQuery + ".qweight") = {"I32", {0, int64_t{1} << 62}, ""};
        },
        kQuery + ".qweight has shape [0, 4611686018427387904], expected two dimensions"}},
      absl::StatusCode::kInvalidArgument);
}

TEST(PackedMatricesTest, F48BrokenAwqAndCompressedTensorsAreRefused) {
  ExpectRefused(
      {{"awq group", "tiny_qwen2_awq_int4", Quantization("group_size", 7),
        "model.layers.0.mlp.down_proj.qweight has 96 inputs, expected a multiple of the group_size "
        "7"},
       {"awq zeros", "tiny_qwen2_awq_int4", Shaped(kQuery + ".qzeros", {4, 2}),
        kQuery + ".qzeros has shape [4, 2], expected [2, 4]"},
       {"awq scales", "tiny_qwen2_awq_int4", Without(kQuery + ".scales"),
        kQuery + ".qweight is there, but not " + kQuery + ".scales"},
       {"shape", "tiny_qwen2_ct_int4", With<int64_t>(kQuery + ".weight_shape", 1, 31),
        kQuery + ".weight_shape says [32, 31], the codes are [32, 32]"},
       {"zeros", "tiny_qwen2_ct_int4", Without(kQuery + ".weight_zero_point"),
        kQuery + ".weight_packed is not symmetric, but has no weight_zero_point beside it"},
       {"zeros' shape", "tiny_qwen2_ct_int4", Shaped(kQuery + ".weight_zero_point", {2, 4}),
        kQuery + ".weight_zero_point has shape [2, 4], expected [4, 2]"},
       {"scale", "tiny_qwen2_ct_int8", With<uint16_t>(kQuery + ".weight_scale", 0, 0x7f80),
        kQuery + ".weight_scale[0] is inf"},
       {"scales", "tiny_qwen2_ct_int8", Shaped(kQuery + ".weight_scale", {1, 32}),
        kQuery + ".weight_scale has shape [1, 32], expected [32, 1]"},
       {"weight", "tiny_qwen2_ct_int8", Without(kQuery + ".weight"),
        kQuery + ".weight_scale is there, but not " + kQuery + ".weight"},
       {"bits", "tiny_qwen2_ct_int8",
        [](EditedModel& m) {
          m.config["quantization_config"]["config_groups"]["group_0"]["weights"]["num_bits"] = 4;
        },
        "model.layers.0.mlp.down_proj.weight is I8, expected codes of 4 bits in weight_packed"}},
      absl::StatusCode::kInvalidArgument);
}

// What no row of the settings' method makes a matrix of is not a weight.
TEST(PackedMatricesTest, PackedTensorsWithoutAConfigAreRefusedByName) {
  EditedModel model(Model("tiny_qwen2_gptq_int4"));
  model.config.erase("quantization_config");
  const absl::Status status = OpenAll(model.Write());
  EXPECT_TRUE(absl::IsUnimplemented(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("is not one that architecture qwen2"));
}

}  // namespace
}  // namespace vernier
