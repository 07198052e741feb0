// Values of packed matrices: bit for bit what their codes and scales say.
#include "engine/checkpoint/packed_tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/packed_matrices.h"
#include "kernels/quantize.h"
#include "tests/engine/checkpoint/edited_model.h"
#include "tests/testing/tensor_file.h"
#include "tests/testing/test_data.h"

namespace vernier {
namespace {

using testing::EditedModel;
using testing::TensorFile;
using testing::TestDataPath;

constexpr const char* kModels[] = {
    "tiny_qwen2_bnb_nf4",   "tiny_qwen2_bnb_nf4_dq", "tiny_qwen2_bnb_int8", "tiny_qwen2_gptq_int4",
    "tiny_qwen2_gptq_int8", "tiny_qwen2_awq_int4",   "tiny_qwen2_ct_int8",  "tiny_qwen2_ct_int4"};

std::string Model(const std::string& layout) { return "checkpoints/" + layout; }

std::unique_ptr<Checkpoint> MustOpen(const std::string& path) {
  auto opened = Checkpoint::Open(path);
  EXPECT_TRUE(opened.ok()) << opened.status();
  return *std::move(opened);
}

std::vector<float> Rows(const WeightSource& source, int64_t first, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count * source.cols));
  EXPECT_TRUE(source.read(first, count, values.data()).ok());
  return values;
}

std::vector<float> Matrix(const Checkpoint& checkpoint, const std::string& name) {
  const auto source = checkpoint.OpenMatrix(name);
  EXPECT_TRUE(source.ok()) << source.status();
  return source.ok() ? Rows(*source, 0, source->rows) : std::vector<float>{};
}

// Their canonical names, and what the file calls their modules.
std::vector<std::pair<std::string, std::string>> PackedNames(const Checkpoint& checkpoint) {
  std::vector<std::pair<std::string, std::string>> names;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    if (tensor.shape.size() != 2 || tensor.name == "embed") continue;
    names.emplace_back(tensor.name, tensor.file_name.substr(0, tensor.file_name.rfind('.')));
  }
  EXPECT_EQ(names.size(), 7u);
  return names;
}

TEST(PackedTensorTest, RowsAreTheSameInAnyPieces) {
  for (const char* layout : kModels) {
    SCOPED_TRACE(layout);
    const auto checkpoint = MustOpen(TestDataPath(Model(layout)));
    const auto source = checkpoint->OpenMatrix("layers.0.mlp.gate");
    ASSERT_TRUE(source.ok()) << source.status();
    ASSERT_EQ(source->rows, 96);
    ASSERT_EQ(source->cols, 32);
    const std::vector<float> whole = Rows(*source, 0, 96);
    for (const auto& [first, count] : {std::pair{0, 1}, {1, 18}, {13, 83}, {95, 1}}) {
      const std::vector<float> piece = Rows(*source, first, count);
      EXPECT_EQ(piece, std::vector<float>(whole.begin() + first * 32,
                                          whole.begin() + (first + count) * 32));
    }
  }
}

// Quantizes each matrix of a model again, and gives it to `check` with the file's own tensors.
void ForEachQuantizedAgain(
    const char* model, FormatId format,
    absl::FunctionRef<void(const QuantizedMatrix&, const TensorFile&, const std::string&)> check) {
  const std::string path = TestDataPath(Model(model));
  const auto checkpoint = MustOpen(path);
  const TensorFile file(path + "/model.safetensors");
  for (const auto& [name, module] : PackedNames(*checkpoint)) {
    SCOPED_TRACE(name);
    const auto source = checkpoint->OpenMatrix(name);
    ASSERT_TRUE(source.ok()) << source.status();
    const auto matrix = Quantize(*source, format);
    ASSERT_TRUE(matrix.ok()) << matrix.status();
    check(*matrix, file, module + ".weight");
  }
}

// Each block has code 0 or 15 where its absmax is, so that values in fp32 give codes and absmax
// again.
TEST(PackedTensorTest, BitsAndBytesNf4IsOurNf4) {
  ForEachQuantizedAgain(
      "tiny_qwen2_bnb_nf4", FormatId::kNf4,
      [](const QuantizedMatrix& matrix, const TensorFile& file, const std::string& weight) {
        EXPECT_EQ(matrix.codes, file.Read<uint8_t>(weight));
        EXPECT_EQ(matrix.scales, file.Read<float>(weight + ".absmax"));
      });
}

TEST(PackedTensorTest, NestedNf4KeepsItsCodes) {
  ForEachQuantizedAgain(
      "tiny_qwen2_bnb_nf4_dq", FormatId::kNf4,
      [](const QuantizedMatrix& matrix, const TensorFile& file, const std::string& weight) {
        EXPECT_EQ(matrix.codes, file.Read<uint8_t>(weight));
        EXPECT_EQ(matrix.scales.size(), file.Read<uint8_t>(weight + ".absmax").size());
      });
}

TEST(PackedTensorTest, BitsAndBytesInt8KeepsItsCodes) {
  ForEachQuantizedAgain(
      "tiny_qwen2_bnb_int8", FormatId::kInt8,
      [](const QuantizedMatrix& matrix, const TensorFile& file, const std::string& weight) {
        EXPECT_EQ(matrix.codes, file.Read<uint8_t>(weight));
      });
}

// A layer that somebody quantized with GPTQ, found among tensors without a model around it.
TEST(PackedTensorTest, ARealGptqLayerIsWhatItsDefinitionSays) {
  const std::string path = TestDataPath("quant/gptq_small.safetensors");
  const auto file = RandomAccessFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  const auto entries = ReadSafetensorsHeader(**file);
  ASSERT_TRUE(entries.ok()) << entries.status();
  std::vector<FileTensor> tensors;
  for (SafetensorsEntry entry : *entries) {
    entry.name = "layer." + entry.name;
    tensors.push_back({*file, entry});
  }
  const auto packed = FindPacked(
      {.method = QuantMethod::kGptq, .bits = 4, .group = 128, .less_one = true}, tensors);
  ASSERT_TRUE(packed.ok()) << packed.status();
  ASSERT_EQ(packed->matrices.size(), 1u);
  EXPECT_EQ(packed->matrices[0].weight_name, "layer.weight");
  const auto source = OpenPacked(packed->matrices[0].tensor, "layer");
  ASSERT_TRUE(source.ok()) << source.status();
  ASSERT_EQ(source->rows, 256);
  ASSERT_EQ(source->cols, 256);
  const std::vector<float> values = Rows(*source, 0, 256);

  const TensorFile reference(path);
  const auto words = reference.Read<uint32_t>("qweight");
  const auto zero_words = reference.Read<uint32_t>("qzeros");
  const auto scales = reference.Read<uint16_t>("scales");
  const auto groups = reference.Read<int32_t>("g_idx");
  double sum = 0, squares = 0;
  for (int n = 0; n < 256; ++n) {
    for (int k = 0; k < 256; ++k) {
      const int code = words[k / 8 * 256 + n] >> (k % 8 * 4) & 15;
      const int zero = (zero_words[groups[k] * 32 + n / 8] >> (n % 8 * 4) & 15) + 1;
      const float value = F32FromF16(scales[groups[k] * 256 + n]) * static_cast<float>(code - zero);
      ASSERT_EQ(values[n * 256 + k], value) << n << ", " << k;
      sum += value;
      squares += value * value;
    }
  }
  // SOURCE.md of the file: mean 0.000, deviation 0.013.
  EXPECT_NEAR(sum / values.size(), 0, 5e-4);
  EXPECT_NEAR(std::sqrt(squares / values.size()), 0.013, 5e-4);
}

// GPTQModel's words of the zero points 0, 1, .. 7 and of eight zeros, less 0x11111111.
TEST(PackedTensorTest, AZeroPointOf0BorrowsFromTheOneAboveIt) {
  EditedModel model(Model("tiny_qwen2_gptq_int4"));
  const std::string module = "model.layers.0.self_attn.q_proj";
  auto& zeros = model.tensors.at(module + ".qzeros");  // [2, 4]
  for (size_t i = 0; i < 8; ++i) zeros.Set<uint32_t>(i, (i % 2 ? 0u : 0x76543210u) - 0x11111111u);
  const auto checkpoint = MustOpen(model.Write());
  const std::vector<float> values = Matrix(*checkpoint, "layers.0.attention.q");

  const TensorFile file(TestDataPath(Model("tiny_qwen2_gptq_int4")) + "/model.safetensors");
  const auto words = file.Read<uint32_t>(module + ".qweight");
  const auto scales = file.Read<uint16_t>(module + ".scales");
  const auto groups = file.Read<int32_t>(module + ".g_idx");
  for (int n = 0; n < 32; ++n) {
    const int zero = n / 8 % 2 ? 0 : n % 8;
    for (int k = 0; k < 32; ++k) {
      const int code = words[k / 8 * 32 + n] >> (k % 8 * 4) & 15;
      ASSERT_EQ(values[n * 32 + k],
                F32FromF16(scales[groups[k] * 32 + n]) * static_cast<float>(code - zero));
    }
  }
}

// 96 * 32 values in blocks of 4096: one short block. 32 * 32 in blocks of 48: the last has 16.
TEST(PackedTensorTest, BlocksOfOtherSizesAndAShortLastOne) {
  EditedModel model(Model("tiny_qwen2_bnb_nf4"));
  const auto edit = [&](const std::string& module, int64_t block, const std::string& shape,
                        const std::vector<float>& absmax) {
    auto& state = model.tensors.at(module + ".weight.quant_state.bitsandbytes__nf4");
    state.bytes = absl::StrCat(R"({"quant_type": "nf4", "blocksize": )", block,
                               R"(, "dtype": "bfloat16", "shape": )", shape, "}");
    state.shape = {static_cast<int64_t>(state.bytes.size())};
    auto& scales = model.tensors.at(module + ".weight.absmax");
    scales.shape = {static_cast<int64_t>(absmax.size())};
    scales.bytes.assign(reinterpret_cast<const char*>(absmax.data()), absmax.size() * 4);
  };
  std::vector<float> absmax(22);
  for (size_t i = 0; i < absmax.size(); ++i) absmax[i] = 0.25f * static_cast<float>(i);
  edit("model.layers.0.mlp.up_proj", 4096, "[96, 32]", {2.0f});
  edit("model.layers.0.self_attn.q_proj", 48, "[32, 32]", absmax);
  const auto checkpoint = MustOpen(model.Write());
  const auto expect = [&](const std::string& name, const std::string& module, auto absmax_of) {
    const std::vector<float> values = Matrix(*checkpoint, name);
    const std::string& codes = model.tensors.at(module + ".weight").bytes;
    for (size_t i = 0; i < values.size(); ++i) {
      const auto pair = static_cast<uint8_t>(codes[i / 2]);
      ASSERT_EQ(values[i], kNf4Values[i % 2 ? pair & 15 : pair >> 4] * absmax_of(i)) << i;
    }
  };
  expect("layers.0.mlp.up", "model.layers.0.mlp.up_proj", [](size_t) { return 2.0f; });
  expect("layers.0.attention.q", "model.layers.0.self_attn.q_proj",
         [&](size_t i) { return absmax[i / 48]; });
}

// bnb_4bit_quant_storage: the same bytes under another type.
TEST(PackedTensorTest, Nf4CodesMayBeStoredAsAnyType) {
  EditedModel model(Model("tiny_qwen2_bnb_nf4"));
  auto& codes = model.tensors.at("model.layers.0.self_attn.q_proj.weight");
  codes.dtype = "BF16";
  codes.shape = {256, 1};
  const auto original = MustOpen(TestDataPath(Model("tiny_qwen2_bnb_nf4")));
  EXPECT_EQ(Matrix(*MustOpen(model.Write()), "layers.0.attention.q"),
            Matrix(*original, "layers.0.attention.q"));
}

TEST(PackedTensorTest, AnAbsMaxOf0IsABlockOfZeros) {
  EditedModel model(Model("tiny_qwen2_bnb_nf4"));
  model.tensors.at("model.layers.0.self_attn.q_proj.weight.absmax").Set<float>(0, 0.0f);
  const auto checkpoint = MustOpen(model.Write());
  const std::vector<float> values = Matrix(*checkpoint, "layers.0.attention.q");
  EXPECT_TRUE(std::all_of(values.begin(), values.begin() + 64, [](float v) { return v == 0; }));
  EXPECT_NE(values[64], 0);
}

// The offset is the mean of all absmax, so that a small one may come out below 0.
TEST(PackedTensorTest, ANestedAbsMaxMayBeBelow0) {
  EditedModel model(Model("tiny_qwen2_bnb_nf4_dq"));
  const std::string module = "model.layers.0.self_attn.q_proj.weight";
  model.tensors.at(module + ".absmax").Set<uint8_t>(0, 0);  // worth -0.99296875
  model.tensors.at(module + ".nested_absmax").Set<float>(0, 64.0f);
  const auto checkpoint = MustOpen(model.Write());
  const auto source = checkpoint->OpenMatrix("layers.0.attention.q");
  ASSERT_TRUE(source.ok()) << source.status();
  float largest = 0;
  for (const float value : Rows(*source, 0, 2)) largest = std::max(largest, std::fabs(value));
  EXPECT_GT(largest, 60);
}

}  // namespace
}  // namespace vernier
