// Which tensors are read, packed, shared and counted; no numbers are computed here.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "engine/model/forward.h"
#include "engine/model/load_plan.h"
#include "engine/model/model.h"
#include "tests/testing/counting_backend.h"
#include "tests/testing/fake_checkpoint.h"

namespace vernier {
namespace {

using testing::CountingBackend;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::FakeCheckpoint;
using ::testing::HasSubstr;
using testing::MemoryLedger;
using ::testing::Pair;

class LoadTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Model>> Load(const std::vector<VariantSpec>& variants) {
    return LoadModelFrom(checkpoint_, "tiny", variants, &backend_, nullptr);
  }
  absl::StatusOr<std::unique_ptr<Model>> LoadFormats(const std::vector<FormatId>& formats) {
    std::vector<VariantSpec> variants;
    for (const FormatId format : formats) variants.push_back(DefaultVariant(format));
    return Load(variants);
  }

  MemoryLedger ledger_;
  FakeCheckpoint checkpoint_{&ledger_};
  CountingBackend backend_{&ledger_};
};

TEST_F(LoadTest, ActivationsAreThoseOfEveryProductAndShareTheWeights) {
  backend_.int8_activations = true;
  const auto loaded = Load({*ParseVariant("int8"), *ParseVariant("int8+a8")});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const Variant& full = (*loaded)->variants[0];
  const Variant& int8 = (*loaded)->variants[1];
  EXPECT_EQ(int8.own_bytes, 0);
  EXPECT_EQ(int8.layers[1].down.weight, full.layers[1].down.weight);
  for (const LayerWeights& layer : int8.layers) {
    for (const Linear* linear :
         {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down}) {
      EXPECT_EQ(linear->activations, Activations::kInt8);
    }
  }
  EXPECT_EQ(int8.lm_head.activations, Activations::kInt8);
  EXPECT_EQ(full.layers[0].q.activations, Activations::kFull);
}

TEST_F(LoadTest, ActivationsThatTheBackendLacksAreRefusedWithItsName) {
  const auto loaded = Load({*ParseVariant("int8"), *ParseVariant("nf4+a8")});
  EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(
      loaded.status().message(),
      HasSubstr("variant nf4+a8: activations is int8, must be full with nf4 weights on this "
                "backend"));
  EXPECT_THAT(loaded.status().message(), HasSubstr(backend_.Describe()));
}

TEST_F(LoadTest, ActivationsAreAskedForByFormatBeforeAnythingIsRead) {
  backend_.int8_activations = true;
  const auto loaded = Load({*ParseVariant("int8+a8"), *ParseVariant("nf4+a8")});
  EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(loaded.status().message(),
              HasSubstr("variant nf4+a8: activations is int8, must be full with nf4 weights"));
  EXPECT_EQ(backend_.create_calls(), 0);
}

TEST_F(LoadTest, Bf16ActivationsAreRefusedWithWeightsOfOtherFormats) {
  VariantSpec int8_head = *ParseVariant("bf16+abf16");
  int8_head.formats.insert(int8_head.formats.begin(), {"lm_head", FormatId::kInt8});
  EXPECT_TRUE(Load({int8_head}).ok());  // which takes x in full
  VariantSpec one_layer = *ParseVariant("bf16+abf16");
  one_layer.formats.insert(one_layer.formats.begin(), {"layers.1.*", FormatId::kF16});
  for (const auto& [variant, format] : {std::pair(*ParseVariant("int8+abf16"), "int8"),
                                        {*ParseVariant("fp16+abf16"), "fp16"},
                                        {one_layer, "fp16"}}) {
    const auto loaded = Load({variant});
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument) << variant.name;
    EXPECT_THAT(
        loaded.status().message(),
        HasSubstr(absl::StrCat("variant ", variant.name,
                               ": activations is bf16, must be full with ", format, " weights")));
  }
}

TEST_F(LoadTest, EachTensorIsOpenedAndPackedOnce) {
  const auto model = LoadFormats({FormatId::kF16, FormatId::kInt8, FormatId::kNf4});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(checkpoint_.opened().size(), checkpoint_.matrices.size());
  EXPECT_THAT(checkpoint_.opened(), Each(Pair(::testing::_, 1)));
  EXPECT_EQ(backend_.create_calls(), static_cast<int>(checkpoint_.matrices.size()));
  EXPECT_THAT(backend_.packed().at("layers.1.mlp.down"),
              ElementsAre(FormatId::kF16, FormatId::kInt8, FormatId::kNf4));
  EXPECT_THAT(backend_.packed().at("embed"), ElementsAre(FormatId::kF16));
}

TEST_F(LoadTest, FirstMatchingRuleDecides) {
  const auto model = Load(
      {{"mixed",
        {{"layers.1.*", FormatId::kInt8}, {"*.mlp.down", FormatId::kNf4}, {"*", FormatId::kF16}}}});
  ASSERT_TRUE(model.ok()) << model.status();
  const Variant& variant = (*model)->variants[0];
  EXPECT_EQ(variant.layers[0].q.weight->format, FormatId::kF16);
  EXPECT_EQ(variant.layers[0].down.weight->format, FormatId::kNf4);
  EXPECT_EQ(variant.layers[1].down.weight->format, FormatId::kInt8);
  EXPECT_EQ(variant.embed.table->format, FormatId::kF16);
}

TEST_F(LoadTest, NormsAndBiasesAreSharedAndNeverMatched) {
  checkpoint_.vectors["layers.0.attention.q.bias"] = 16;
  checkpoint_.vectors["final_norm.bias"] = 16;
  checkpoint_.config_mutable.norm = NormKind::kLayer;
  const auto model = LoadFormats({FormatId::kInt8, FormatId::kNf4});
  ASSERT_TRUE(model.ok()) << model.status();
  for (const auto& [name, formats] : backend_.packed()) {
    EXPECT_TRUE(checkpoint_.matrices.contains(name)) << name;
  }
  const Variant& a = (*model)->variants[0];
  const Variant& b = (*model)->variants[1];
  ASSERT_NE(a.layers[0].q.bias, nullptr);
  EXPECT_EQ(a.layers[0].q.bias, b.layers[0].q.bias);
  EXPECT_EQ(a.layers[0].k.bias, nullptr);
  EXPECT_EQ(a.layers[1].mlp_norm.weight, b.layers[1].mlp_norm.weight);
  EXPECT_NE(a.final_norm.bias, nullptr);
  EXPECT_EQ(a.layers[0].mlp_norm.bias, nullptr);
  EXPECT_EQ(a.final_norm.kind, NormKind::kLayer);
  EXPECT_EQ(a.final_norm.epsilon, 1e-5f);
}

TEST_F(LoadTest, PositionEmbedFollowsTheRuleForEmbed) {
  checkpoint_.config_mutable.learned_positions = true;
  checkpoint_.config_mutable.inverse_frequencies.clear();
  checkpoint_.matrices["position_embed"] = {32, 16};
  const auto model = Load(
      {{"v",
        {{"position_embed", FormatId::kNf4}, {"embed", FormatId::kBF16}, {"*", FormatId::kInt8}}}});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->variants[0].embed.positions->format, FormatId::kBF16);
  EXPECT_EQ((*model)->rotary.inverse_frequencies, nullptr);
}

TEST_F(LoadTest, EqualFormatsAreOneWeight) {
  const auto model = LoadFormats({FormatId::kF16, FormatId::kInt8});
  ASSERT_TRUE(model.ok()) << model.status();
  const Variant& fp16 = (*model)->variants[0];
  const Variant& int8 = (*model)->variants[1];
  EXPECT_EQ(fp16.embed.table, int8.embed.table);
  EXPECT_EQ(fp16.lm_head.weight, fp16.embed.table);  // tied
  EXPECT_NE(fp16.layers[0].q.weight, int8.layers[0].q.weight);
  EXPECT_EQ(fp16.tied_copy_bytes, 0);
}

TEST_F(LoadTest, TiedHeadOfAnotherFormatIsReportedAsACopy) {
  const auto model = Load({{"a", {{"lm_head", FormatId::kInt8}, {"*", FormatId::kF16}}},
                           {"b", {{"*", FormatId::kF16}}}});
  ASSERT_TRUE(model.ok()) << model.status();
  const Variant& a = (*model)->variants[0];
  EXPECT_NE(a.lm_head.weight, a.embed.table);
  EXPECT_EQ(a.tied_copy_bytes, FormatBytes(FormatId::kInt8, 64, 16));
  EXPECT_EQ((*model)->variants[1].tied_copy_bytes, 0);
  EXPECT_EQ(checkpoint_.opened().at("embed"), 1);
}

TEST_F(LoadTest, UntiedHeadIsATensorOfItsOwn) {
  checkpoint_.config_mutable.tied_lm_head = false;
  checkpoint_.matrices["lm_head"] = {64, 16};
  const auto model = LoadFormats({FormatId::kF16});
  ASSERT_TRUE(model.ok()) << model.status();
  const Variant& variant = (*model)->variants[0];
  EXPECT_NE(variant.lm_head.weight, variant.embed.table);
  EXPECT_EQ(variant.tied_copy_bytes, 0);
}

TEST_F(LoadTest, BytesAddUp) {
  const auto loaded = Load({DefaultVariant(FormatId::kF16),
                            DefaultVariant(FormatId::kInt8),
                            {"half", {{"*.mlp.*", FormatId::kNf4}, {"*", FormatId::kF16}}}});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const Model& model = **loaded;
  int64_t everything = 0, own = 0;
  for (const auto& [key, weight] : model.weights) everything += weight->bytes;
  for (const auto& [name, vector] : model.vectors) everything += vector->size * 4;
  for (const Variant& variant : model.variants) own += variant.own_bytes;
  EXPECT_EQ(model.memory.weight_bytes, everything);
  EXPECT_EQ(own + model.memory.shared_weight_bytes, everything);

  // By hand: norms and rotary, the embedding for all three; attention between fp16 and half.
  const int64_t common = (5 * 16 + 2) * 4 + 64 * 16 * 2;
  const int64_t attention = 2 * (16 + 8 + 8 + 16) * 16;  // values of both layers
  const int64_t mlp = 2 * 3 * 32 * 16;
  EXPECT_EQ(model.variants[0].own_bytes, mlp * 2);
  EXPECT_EQ(model.variants[0].shared_bytes, common + attention * 2);
  EXPECT_EQ(model.variants[1].own_bytes,
            mlp + attention + 2 * (16 + 8 + 8 + 16 + 32 + 32 + 16) * 4);
  EXPECT_EQ(model.variants[1].shared_bytes, common);
  EXPECT_EQ(model.variants[2].own_bytes, mlp / 2 + mlp / 64 * 4);
  EXPECT_EQ(model.memory.shared_weight_bytes, common + attention * 2);
  EXPECT_EQ(model.memory.disk_bytes, 12345);
}

TEST_F(LoadTest, ALoneVariantSharesNothing) {
  const auto model = LoadFormats({FormatId::kInt8});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->variants[0].shared_bytes, 0);
  EXPECT_EQ((*model)->memory.shared_weight_bytes, 0);
  EXPECT_EQ((*model)->variants[0].own_bytes, (*model)->memory.weight_bytes);
}

TEST_F(LoadTest, PeakIsTheResultAndTheTwoLargestTensors) {
  const auto model = LoadFormats({FormatId::kF16, FormatId::kInt8, FormatId::kNf4});
  ASSERT_TRUE(model.ok()) << model.status();
  int64_t result = 0;
  for (const auto& [key, weight] : (*model)->weights) result += weight->bytes;
  std::vector<int64_t> files;
  for (const auto& [name, shape] : checkpoint_.matrices) {
    files.push_back(checkpoint_.FileBytes(name));
  }
  std::sort(files.rbegin(), files.rend());
  EXPECT_EQ(ledger_.live_bytes(), result);
  EXPECT_LE(ledger_.peak_bytes(), result + files[0] + files[1]);
}

TEST_F(LoadTest, Nf4AloneKeepsNoOtherCopyOfAQuantizedTensor) {
  auto model = LoadFormats({FormatId::kNf4});
  ASSERT_TRUE(model.ok()) << model.status();
  for (const auto& [name, formats] : backend_.packed()) {
    EXPECT_THAT(formats, ElementsAre(name == "embed" ? FormatId::kF16 : FormatId::kNf4)) << name;
  }
  int64_t result = 0;
  for (const auto& [key, weight] : (*model)->weights) result += weight->bytes;
  EXPECT_EQ(ledger_.live_bytes(), result);
  model->reset();
  EXPECT_EQ(ledger_.live_bytes(), 0);
}

TEST_F(LoadTest, PrecisionIsTheFormatOfMostLayerBytes) {
  const auto model = Load({{"a", {{"*.mlp.*", FormatId::kInt8}, {"*", FormatId::kF16}}},
                           {"b", {{"*.attention.q", FormatId::kInt8}, {"*", FormatId::kNf4}}},
                           {"c", {{"layers.*", FormatId::kNf4Dq}, {"*", FormatId::kF32}}}});
  ASSERT_TRUE(model.ok()) << model.status();
  // Attention has 768 values a layer and the MLP 1536: as many bytes in fp16 as in int8, but int8
  // has scales too.
  EXPECT_EQ((*model)->variants[0].precision, FormatId::kInt8);
  EXPECT_EQ((*model)->variants[1].precision, FormatId::kNf4);
  EXPECT_EQ((*model)->variants[2].precision, FormatId::kNf4Dq);
}

TEST_F(LoadTest, AWeightWithoutAFormatIsNamed) {
  const auto model = Load({{"v", {{"layers.*", FormatId::kInt8}, {"lm_head", FormatId::kF16}}}});
  EXPECT_TRUE(absl::IsInvalidArgument(model.status()));
  EXPECT_THAT(model.status().message(), HasSubstr("variant v: no rule gives embed a format"));
  EXPECT_EQ(backend_.create_calls(), 0);
}

TEST_F(LoadTest, AMissingTensorIsNamed) {
  checkpoint_.matrices.erase("layers.1.mlp.gate");
  const auto model = LoadFormats({FormatId::kF16});
  EXPECT_TRUE(absl::IsInvalidArgument(model.status()));
  EXPECT_THAT(model.status().message(), HasSubstr("layers.1.mlp.gate"));
}

TEST_F(LoadTest, WhatAnArchitectureHasMustBeThere) {
  ModelConfig& config = checkpoint_.config_mutable;
  const auto message = [&] {
    return std::string(LoadFormats({FormatId::kF16}).status().message());
  };
  config.qkv_biases = true;
  EXPECT_THAT(message(), HasSubstr("tensor layers.0.attention.q.bias is not in the checkpoint"));
  config.qkv_biases = false;
  config.head_norms = true;
  EXPECT_THAT(message(), HasSubstr("tensor layers.0.attention.q_norm.weight is not in"));
  config.head_norms = false;
  config.post_norms = true;
  EXPECT_THAT(message(), HasSubstr("tensor layers.0.attention_post_norm.weight is not in"));
}

TEST_F(LoadTest, LayersWithAWindowMayHaveTheirOwnRotaryBase) {
  checkpoint_.config_mutable.window = 3;
  checkpoint_.config_mutable.windowed_layers = {true, false};
  auto model = LoadFormats({FormatId::kF16});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->window_rotary.inverse_frequencies, (*model)->rotary.inverse_frequencies);
  checkpoint_.config_mutable.window_inverse_frequencies = {1.0f, 0.1f};
  model = LoadFormats({FormatId::kF16});
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_NE((*model)->window_rotary.inverse_frequencies, nullptr);
  EXPECT_NE((*model)->window_rotary.inverse_frequencies, (*model)->rotary.inverse_frequencies);
}

TEST_F(LoadTest, AMissingNormIsNamed) {
  checkpoint_.vectors.erase("final_norm.weight");
  EXPECT_THAT(LoadFormats({FormatId::kF16}).status().message(), HasSubstr("final_norm.weight"));
}

TEST_F(LoadTest, AShapeThatTheConfigContradictsIsRefused) {
  checkpoint_.matrices["layers.0.attention.k"] = {16, 16};
  const auto model = LoadFormats({FormatId::kF16});
  EXPECT_TRUE(absl::IsInvalidArgument(model.status()));
  EXPECT_THAT(model.status().message(),
              HasSubstr("layers.0.attention.k is [16, 16], the config makes it [8, 16]"));

  checkpoint_.matrices["layers.0.attention.k"] = {8, 16};
  checkpoint_.vectors["layers.0.mlp_norm.weight"] = 15;
  EXPECT_THAT(LoadFormats({FormatId::kF16}).status().message(),
              HasSubstr("layers.0.mlp_norm.weight has 15 values"));
}

TEST_F(LoadTest, LayersThatTheFileCannotHoldSizeNothing) {
  checkpoint_.config_mutable.num_layers = int64_t{1} << 40;
  EXPECT_TRUE(absl::IsInvalidArgument(LoadFormats({FormatId::kF16}).status()));
}

TEST_F(LoadTest, AnErrorOfTheFileIsPassedOn) {
  checkpoint_.broken["layers.1.attention.o"] = absl::InvalidArgumentError("row 3 is not finite");
  const auto model = LoadFormats({FormatId::kF16});
  EXPECT_EQ(model.status(), absl::InvalidArgumentError("row 3 is not finite"));
  EXPECT_EQ(ledger_.live_bytes(), 0);
}

TEST_F(LoadTest, ProgressCountsEveryTensorAndCanCancel) {
  std::vector<int64_t> done;
  int64_t total = 0;
  LoadProgress last;
  const std::vector<VariantSpec> variants{DefaultVariant(FormatId::kF16)};
  auto count = [&](const LoadProgress& progress) {
    done.push_back(progress.tensors_done);
    total = progress.tensors_total;
    EXPECT_GE(progress.bytes_done, last.bytes_done);
    last = progress;
    return true;
  };
  ASSERT_TRUE(LoadModelFrom(checkpoint_, "tiny", variants, &backend_, count).ok());
  EXPECT_EQ(total, static_cast<int64_t>(checkpoint_.matrices.size() + checkpoint_.vectors.size()));
  ASSERT_EQ(static_cast<int64_t>(done.size()), total + 1);
  for (int64_t i = 0; i <= total; ++i) EXPECT_EQ(done[i], i);
  int64_t bytes = 0;
  for (const TensorInfo& tensor : checkpoint_.tensors()) bytes += tensor.bytes;
  EXPECT_EQ(last.bytes_total, bytes);
  EXPECT_EQ(last.bytes_done, bytes);

  auto stop = [](const LoadProgress& progress) { return progress.tensors_done < 3; };
  const auto model = LoadModelFrom(checkpoint_, "tiny", variants, &backend_, stop);
  EXPECT_TRUE(absl::IsCancelled(model.status()));
  EXPECT_THAT(model.status().message(), HasSubstr("after 3 of"));
  EXPECT_EQ(ledger_.live_bytes(), 0);
}

TEST_F(LoadTest, AModelWithoutATokenizerSaysWhy) {
  const auto model = LoadFormats({FormatId::kF16});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->tokenizer, nullptr);
  EXPECT_THAT((*model)->no_tokenizer_reason, HasSubstr("the test has no tokenizer"));
  EXPECT_EQ((*model)->chat_template, nullptr);
  EXPECT_THAT((*model)->no_chat_reason, HasSubstr("no tokenizer"));
}

TEST_F(LoadTest, ABrokenTokenizerIsAnError) {
  checkpoint_.tokenizer_mutable.kind = TokenizerSource::Kind::kHuggingFace;
  checkpoint_.tokenizer_mutable.tokenizer_json = "{\"model\": ";
  EXPECT_TRUE(absl::IsInvalidArgument(LoadFormats({FormatId::kF16}).status()));
}

TEST_F(LoadTest, ATokenizerLargerThanTheVocabularyIsRefused) {
  TokenizerSource& source = checkpoint_.tokenizer_mutable;
  source.kind = TokenizerSource::Kind::kGguf;
  source.gguf.model = "gpt2";
  source.gguf.pre = "smollm";
  for (int i = 0; i < 65; ++i) {
    source.gguf.tokens.push_back(absl::StrCat("t", i));
    source.gguf.types.push_back(1);
  }
  const auto model = LoadFormats({FormatId::kF16});
  EXPECT_TRUE(absl::IsInvalidArgument(model.status())) << model.status();
  EXPECT_THAT(model.status().message(), HasSubstr("65 tokens, the model's vocabulary 64"));
}

TEST_F(LoadTest, TheModelSaysWhatItWasComparedWith) {
  const auto without = LoadFormats({FormatId::kF16});
  ASSERT_TRUE(without.ok()) << without.status();
  EXPECT_STREQ(IntegrityName((*without)->integrity), "structure only");
  EXPECT_FALSE((*without)->golden.has_value());
  checkpoint_.manifest_mutable = Manifest{.golden = GoldenTokens{{1}, {2}, 0.5},
                                          .golden_formats = {{FormatId::kInt8, {{1}, {3}, 0.5}}}};
  const auto with = LoadFormats({FormatId::kF16});
  ASSERT_TRUE(with.ok()) << with.status();
  EXPECT_STREQ(IntegrityName((*with)->integrity), "manifest");
  EXPECT_EQ((*with)->golden, checkpoint_.manifest_mutable->golden);
  EXPECT_EQ((*with)->golden_formats, checkpoint_.manifest_mutable->golden_formats);
}

TEST_F(LoadTest, F50FilesThatChangeMeanwhileAreRefused) {
  checkpoint_.changed = absl::InvalidArgumentError("model.safetensors was changed");
  const auto model = LoadFormats({FormatId::kF16});
  EXPECT_EQ(model.status(), checkpoint_.changed);
  EXPECT_EQ(ledger_.live_bytes(), 0);
}

TEST_F(LoadTest, VariantsAreFoundByName) {
  const auto model = LoadFormats({FormatId::kF16, FormatId::kNf4});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->FindVariant("nf4"), 1);
  EXPECT_EQ((*model)->FindVariant("int8"), -1);
  EXPECT_EQ((*model)->weights_sha256, std::string(64, 'a'));
  EXPECT_EQ((*model)->source, "fp32");
}

TEST_F(LoadTest, WorkspaceHoldsTheWidestCache) {
  const auto model = LoadFormats({FormatId::kF16, FormatId::kF32});
  ASSERT_TRUE(model.ok()) << model.status();
  const WorkspacePlan plan = PlanWorkspace(**model, 8, 4, 32, 10);
  EXPECT_EQ(plan.widest_kv, KvType::kF32);
  EXPECT_EQ(plan.max_rows, 8);
  EXPECT_EQ(plan.max_logit_rows, 4);
  EXPECT_EQ(plan.max_context, 32);
  EXPECT_EQ(plan.kv_blocks, 10);
  EXPECT_EQ(plan.vocab, 64);
  EXPECT_EQ(plan.num_layers, 2);
}

TEST_F(LoadTest, TheWidestCacheIsOfMostBytesABlock) {
  Model model;
  model.config.attention = {.num_heads = 2, .num_kv_heads = 1, .head_dim = 64};
  model.variants.resize(2);
  model.variants[0].kv = model.variants[1].kv = KvType::kInt8;
  EXPECT_EQ(WidestKv(model), KvType::kInt8) << "half of a 16-bit pool";
  model.variants[1].kv = KvType::kBF16;
  EXPECT_EQ(WidestKv(model), KvType::kBF16);
  model.config.attention.head_dim = 2;  // 2 bytes and a scale of 4
  EXPECT_EQ(WidestKv(model), KvType::kInt8);
}

// The counting backend has what every backend has.
TEST_F(LoadTest, ACacheThatTheBackendLacksIsRefusedBeforeATensorIsRead) {
  VariantSpec late = *ParseVariant("nf4+kv8");
  late.at_start = false;
  const auto model = Load({DefaultVariant(FormatId::kF16), late});
  EXPECT_TRUE(absl::IsInvalidArgument(model.status())) << model.status();
  EXPECT_EQ(model.status().message(),
            "variant nf4+kv8: kv is int8, must be one of fp32, fp16, bf16 on this backend "
            "(counting)");
  EXPECT_THAT(checkpoint_.opened(), ::testing::IsEmpty());
}

}  // namespace
}  // namespace vernier
