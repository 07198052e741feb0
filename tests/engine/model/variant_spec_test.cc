// What a variant's name and rules mean, before anything is loaded.
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/model/activations.h"
#include "engine/model/load_plan.h"
#include "engine/model/model.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace vernier {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

TEST(MatchesPatternTest, StarStandsForAnyRunOfCharacters) {
  EXPECT_TRUE(MatchesPattern("*", ""));
  EXPECT_TRUE(MatchesPattern("*", "layers.0.attention.q"));
  EXPECT_TRUE(MatchesPattern("layers.*.mlp.down", "layers.12.mlp.down"));
  EXPECT_TRUE(MatchesPattern("*.down", "layers.down.mlp.down"));
  EXPECT_TRUE(MatchesPattern("a*b*c**", "aXbYbZc"));
  EXPECT_FALSE(MatchesPattern("layers.*.mlp.down", "layers.12.mlp.up"));
  EXPECT_FALSE(MatchesPattern("embed", "position_embed"));
  EXPECT_FALSE(MatchesPattern("embed", "embedding"));
  EXPECT_FALSE(MatchesPattern("", "embed"));
  EXPECT_FALSE(MatchesPattern("a*b", "a"));
}

TEST(MatchesPatternTest, ManyStarsAreNotExponential) {
  std::string pattern;
  for (int i = 0; i < 500; ++i) pattern += "*a";
  EXPECT_FALSE(MatchesPattern(pattern + "b", std::string(5000, 'a')));
}

TEST(DefaultVariantTest, KeepsEmbeddingAndHeadInSixteenBits) {
  const VariantSpec nf4 = DefaultVariant(FormatId::kNf4);
  EXPECT_EQ(nf4.name, "nf4");
  ASSERT_EQ(nf4.formats.size(), 3u);
  EXPECT_EQ(nf4.formats[0].format, FormatId::kF16);
  EXPECT_EQ(nf4.formats[1].format, FormatId::kF16);
  EXPECT_EQ(nf4.formats[2].pattern, "*");
  EXPECT_EQ(nf4.formats[2].format, FormatId::kNf4);
  EXPECT_EQ(nf4.kv, KvType::kF16);
}

TEST(DefaultVariantTest, Fp32IsFp32Throughout) {
  const VariantSpec fp32 = DefaultVariant(FormatId::kF32);
  ASSERT_EQ(fp32.formats.size(), 1u);
  EXPECT_EQ(fp32.formats[0].format, FormatId::kF32);
  EXPECT_EQ(fp32.kv, KvType::kF32);
}

TEST(ParseVariantTest, ABareNameIsAFormatAndTheTypeOfItsCache) {
  for (const QuantFormat& format : QuantFormats()) {
    const auto plain = ParseVariant(format.name);
    const auto int8_kv = ParseVariant(absl::StrCat(format.name, "+kv8"));
    ASSERT_TRUE(plain.ok() && int8_kv.ok()) << format.name;
    EXPECT_EQ(plain->name, format.name);
    EXPECT_EQ(plain->kv, DefaultVariant(format.id).kv);
    EXPECT_EQ(int8_kv->name, absl::StrCat(format.name, "+kv8"));
    EXPECT_EQ(int8_kv->kv, KvType::kInt8);
    EXPECT_EQ(int8_kv->formats.back().format, format.id);
    EXPECT_EQ(int8_kv->formats.size(), plain->formats.size());
    EXPECT_TRUE(CheckVariants({*int8_kv}).ok());
  }
  for (const char* name : {"", "+kv8", "nf4+kv4", "nf4+kv8+kv8", "kv8", "nf4 +kv8"}) {
    const auto parsed = ParseVariant(name);
    EXPECT_TRUE(absl::IsInvalidArgument(parsed.status())) << name;
    EXPECT_THAT(parsed.status().message(), HasSubstr("known: fp32, ")) << name;
  }
}

TEST(ParseVariantTest, ActivationsAreNamedBehindTheFormat) {
  const absl::StatusOr<VariantSpec> plain = ParseVariant("int8");
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(plain->activations, Activations::kFull);
  const absl::StatusOr<VariantSpec> int8 = ParseVariant("int8+a8");
  ASSERT_TRUE(int8.ok()) << int8.status();
  EXPECT_EQ(int8->name, "int8+a8");
  EXPECT_EQ(int8->formats.back().format, FormatId::kInt8);
  EXPECT_EQ(int8->activations, Activations::kInt8);
  const absl::StatusOr<VariantSpec> llm = ParseVariant("int8+llm8+kv8");
  ASSERT_TRUE(llm.ok()) << llm.status();
  EXPECT_EQ(llm->activations, Activations::kLlmInt8);
  EXPECT_EQ(llm->kv, KvType::kInt8);
  const absl::StatusOr<VariantSpec> bf16 = ParseVariant("bf16+abf16");
  ASSERT_TRUE(bf16.ok()) << bf16.status();
  EXPECT_EQ(bf16->formats.back().format, FormatId::kBF16);
  EXPECT_EQ(bf16->activations, Activations::kBF16);
  for (const char* name : {"nf4+a8+kv8", "nf4+kv8+a8"}) {
    const absl::StatusOr<VariantSpec> both = ParseVariant(name);
    ASSERT_TRUE(both.ok()) << both.status();
    EXPECT_EQ(both->activations, Activations::kInt8);
    EXPECT_EQ(both->kv, KvType::kInt8);
  }
  for (const char* name : {"", "+a8", "int8+", "int8+a4", "a8+int8", "int8+a8+a8", "int8+a8+llm8",
                           "int8+llm8+llm8", "bf16+abf16+a8", "bf16+bf16"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseVariant(name).status())) << name;
  }
  EXPECT_THAT(std::string(ParseVariant("int4").status().message()),
              EndsWith("; behind it may stand +kv8, an int8 KV cache, and +a8, int8 activations, "
                       "or +llm8, those of LLM.int8, or +abf16, bf16 activations"));
}

TEST(ActivationsTest, ARowIsFoundByItsValueItsNameAndItsSuffix) {
  for (const ActivationsTraits& traits : kActivations) {
    EXPECT_EQ(ActivationsName(traits.activations), traits.name);
    EXPECT_EQ(ParseActivations(traits.name), traits.activations);
    const absl::StatusOr<VariantSpec> parsed = ParseVariant(absl::StrCat("int8", traits.suffix));
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(parsed->activations, traits.activations);
  }
  for (const char* name : {"", "int4", "+a8", "full "}) {
    EXPECT_EQ(ParseActivations(name), std::nullopt) << name;
  }
}

TEST(CheckVariantsTest, RefusesMalformedSets) {
  const FormatRule all{"*", FormatId::kF16};
  EXPECT_TRUE(CheckVariants({{"a", {all}}, {"a.b_c+d-2", {all}}}).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(CheckVariants({})));
  EXPECT_THAT(CheckVariants({{"a", {all}}, {"a", {all}}}).message(), HasSubstr("a is there twice"));
  EXPECT_THAT(CheckVariants({{"a", {}}}).message(), HasSubstr("no format rule"));
  for (const char* name : {"", "A", "-a", "a b", "a\n", "\xc3\xa9"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CheckVariants({{name, {all}}}))) << name;
  }
  EXPECT_FALSE(CheckVariants({{std::string(64, 'a'), {all}}}).ok());
}

}  // namespace
}  // namespace vernier
