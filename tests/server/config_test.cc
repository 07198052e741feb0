#include "server/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "server/config_flags.h"
#include "tests/testing/test_data.h"

namespace vernier {
namespace {

using ::testing::HasSubstr;

constexpr char kGood[] =
    "model: {path: m.gguf, name: m}\n"
    "variants:\n"
    "  - {name: fp16, formats: [[\"*\", fp16]]}\n"
    "  - {name: nf4, formats: [[\"lm_head\", fp16], [\"*\", nf4]], kv: fp16}\n";

ParsedConfig Check(const std::string& text) {
  ParsedConfig parsed = ParseConfig(text);
  CheckConfig(&parsed);
  return parsed;
}

TEST(ConfigTest, GoodConfigurationIsRead) {
  const ParsedConfig parsed = Check(absl::StrCat(
      kGood, "engine: {max_sequences: 8, kv_bytes: 1048576}\ndeadlines: {default_seconds: 1.5}\n"));
  EXPECT_TRUE(parsed.errors.empty()) << FormatErrors("f", parsed.errors);
  EXPECT_EQ(parsed.config.variants.size(), 2u);
  EXPECT_EQ(parsed.config.variants[1].formats.size(), 2u);
  EXPECT_EQ(parsed.config.engine.max_sequences, 8);
  EXPECT_EQ(parsed.config.default_deadline, absl::Seconds(1.5));
  EXPECT_EQ(parsed.config.EffectiveModelName(), "m");
}

TEST(ConfigTest, LmHeadIsARuleBeforeTheOthers) {
  const ParsedConfig parsed = Check(
      "model: {path: m.gguf}\n"
      "variants:\n"
      "  - {name: nf4, lm_head: int8}\n"
      "  - {name: a, formats: [[\"lm_head\", fp16], [\"*\", nf4]], lm_head: int8}\n");
  EXPECT_TRUE(parsed.errors.empty()) << FormatErrors("f", parsed.errors);
  ASSERT_EQ(parsed.config.variants.size(), 2u);
  for (const VariantSpec& variant : parsed.config.variants) {
    EXPECT_EQ(variant.formats.front().pattern, "lm_head");
    EXPECT_EQ(variant.formats.front().format, FormatId::kInt8);
    EXPECT_EQ(variant.formats.back().format, FormatId::kNf4);
  }
}

TEST(ConfigTest, TheTypeOfTheCacheIsTheNamesUnlessGiven) {
  const ParsedConfig parsed = Check(
      "model: {path: m.gguf}\n"
      "variants:\n"
      "  - {name: fp16}\n"
      "  - {name: nf4+kv8}\n"
      "  - {name: int8+kv8, lm_head: int8}\n"
      "  - {name: fp32}\n"
      "  - {name: bf16, kv: bf16}\n"
      "  - {name: a, formats: [[\"*\", nf4]], kv: int8}\n");
  EXPECT_TRUE(parsed.errors.empty()) << FormatErrors("f", parsed.errors);
  std::vector<KvType> types;
  for (const VariantSpec& variant : parsed.config.variants) types.push_back(variant.kv);
  EXPECT_EQ(types, (std::vector<KvType>{KvType::kF16, KvType::kInt8, KvType::kInt8, KvType::kF32,
                                        KvType::kBF16, KvType::kInt8}));
  EXPECT_EQ(parsed.config.variants[1].formats.back().format, FormatId::kNf4);
  const ParsedConfig bad =
      Check("model: {path: m}\nvariants:\n  - {name: nf4, kv: int4}\n  - {name: nf4+kv4}\n");
  EXPECT_THAT(FormatErrors("f", bad.errors),
              HasSubstr("f:3: variants.kv must be one of fp32, fp16, bf16, int8"));
  EXPECT_THAT(FormatErrors("f", bad.errors), HasSubstr("f:4: variant nf4+kv4 has no formats"));
}

constexpr char kExperiment[] =
    "experiments:\n"
    "  folder: /tmp/e\n"
    "  define:\n"
    "    - id: 7\n"
    "      state: RUNNING\n"
    "      arms: [{name: full, variant: fp16, weight: 0.9}, {name: 1e3, variant: nf4, weight: "
    "0.1}]\n"
    "      ramp: [0.1, 1]\n"
    "      decision: {primary: errors, margin: 0.01}\n";

TEST(ConfigTest, ExperimentsAreThoseOfTheProtocol) {
  const ParsedConfig parsed = Check(absl::StrCat(kGood, kExperiment));
  EXPECT_TRUE(parsed.errors.empty()) << FormatErrors("f", parsed.errors);
  EXPECT_EQ(parsed.config.experiments_folder, "/tmp/e");
  ASSERT_EQ(parsed.config.experiments.size(), 1u);
  const v1::Experiment& experiment = parsed.config.experiments[0].message;
  EXPECT_EQ(experiment.id(), "7");  // a name, whatever it looks like
  EXPECT_EQ(experiment.state(), v1::Experiment::RUNNING);
  EXPECT_EQ(experiment.arms(1).weight(), 0.1);
  EXPECT_EQ(experiment.decision().margin(), 0.01);
}

TEST(ConfigTest, WhatIsWrongWithAnExperimentIsSaidWithItsLine) {
  const auto errors = [](const std::string& text) {
    return FormatErrors("f", Check(absl::StrCat(kGood, text)).errors);
  };
  const std::string twice = absl::StrCat(
      kExperiment,
      absl::string_view(kExperiment).substr(absl::string_view(kExperiment).find("    -")));
  EXPECT_THAT(errors(twice), HasSubstr("f:13: experiment 7 is given twice"));
  EXPECT_THAT(errors("experiments: {define: [{id: x}]}\n"),
              HasSubstr("without experiments.folder"));
  EXPECT_THAT(errors("experiments: {folder: f, define: [{id: x, colour: red}]}\n"),
              HasSubstr("f:5: experiments.define: "));
  EXPECT_THAT(errors("experiments: {folder: f, define: [{id: x, arms: [{name: a, variant: q},"
                     " {name: b, variant: nf4}]}]}\n"),
              HasSubstr("arms[0].variant is q"));
  EXPECT_THAT(errors("experiments: {folder: f, define: [x]}\n"), HasSubstr("must be a mapping"));
  EXPECT_THAT(errors("experiments: {folder: f, define: [{id: \"\\xff\"}]}\n"), HasSubstr("f:5: "));
}

// Found by config_fuzz: an experiment's error lists the variants.
TEST(ConfigTest, WhatListsTheVariantsListsNoneThatATerminalWouldActOn) {
  const std::string experiments =
      "experiments: {folder: f, define: [{id: x, arms: [{name: a, variant: q},"
      " {name: b, variant: q}]}]}\n";
  const ParsedConfig parsed = Check(absl::StrCat(
      "model: {path: m}\nvariants: [{name: \"a\\e[2J\"}, {name: nf4}]\n", experiments));
  ASSERT_EQ(parsed.errors.size(), 2u);
  EXPECT_THAT(parsed.errors[0].message, HasSubstr("a variant's name must match"));
  EXPECT_THAT(parsed.errors[1].message, HasSubstr("arms[0].variant is q, must be one of nf4"));
}

TEST(ConfigTest, ActivationsAreAFieldOfAVariantOrPartOfItsName) {
  const ParsedConfig parsed = Check(
      "model: {path: m}\nvariants:\n  - {name: nf4}\n  - {name: nf4+a8}\n"
      "  - {name: mine, formats: [['*', int8]], activations: int8}\n"
      "  - {name: int8+a8, activations: full}\n  - {name: int8+llm8}\n"
      "  - {name: theirs, formats: [['*', int8]], activations: llm-int8}\n"
      "  - {name: bf16+abf16}\n  - {name: halves, formats: [['*', bf16]], activations: bf16}\n");
  ASSERT_TRUE(parsed.errors.empty()) << FormatErrors("f", parsed.errors);
  const std::vector<VariantSpec>& variants = parsed.config.variants;
  EXPECT_EQ(variants[0].activations, Activations::kFull);
  EXPECT_EQ(variants[1].activations, Activations::kInt8);
  EXPECT_EQ(variants[1].formats.back().format, FormatId::kNf4);
  EXPECT_EQ(variants[2].activations, Activations::kInt8);
  EXPECT_EQ(variants[4].activations, Activations::kLlmInt8);
  EXPECT_EQ(variants[5].activations, Activations::kLlmInt8);
  EXPECT_EQ(variants[6].activations, Activations::kBF16);
  EXPECT_EQ(variants[7].activations, Activations::kBF16);
  EXPECT_EQ(variants[3].activations, Activations::kFull);  // what is written goes before the name
  EXPECT_THAT(
      FormatErrors("f",
                   Check("model: {path: m}\nvariants: [{name: nf4, activations: int4}]\n").errors),
      HasSubstr("activations must be one of full, int8, llm-int8, bf16"));
}

TEST(ConfigTest, VariantsAreAtMostSixteen) {
  const auto errors = [](int count) {
    std::string text = "model: {path: m}\nvariants:\n";
    for (int i = 0; i < count; ++i) {
      absl::StrAppend(&text, "  - {name: v", i, ", formats: [['*', nf4]]}\n");
    }
    return FormatErrors("f", Check(text).errors);
  };
  EXPECT_EQ(errors(16), "");
  EXPECT_EQ(errors(17), "f:3: 17 variants, must be at most 16\n");
}

TEST(ConfigTest, AliasesThatMultiplyAnExperimentAreAnError) {
  std::string text =
      "experiments:\n  folder: f\n  define:\n    - a: &a [x, x, x, x, x, x, x, x, x, x]\n";
  for (char c = 'b'; c <= 'g'; ++c) {
    const std::string before(1, static_cast<char>(c - 1));
    absl::StrAppend(&text, "      ", std::string(1, c), ": &", std::string(1, c), " [");
    for (int i = 0; i < 10; ++i) absl::StrAppend(&text, i > 0 ? ", *" : "*", before);
    absl::StrAppend(&text, "]\n");
  }
  EXPECT_THAT(FormatErrors("f", Check(absl::StrCat(kGood, text)).errors),
              HasSubstr("more than 10000 values"));
}

struct BadCase {
  const char* text;  // line 5 on
  int line;
  const char* message;
};

class ConfigErrorTest : public ::testing::TestWithParam<BadCase> {};

TEST_P(ConfigErrorTest, F51IsReportedWithItsLine) {
  const ParsedConfig parsed = Check(absl::StrCat(kGood, GetParam().text));
  ASSERT_EQ(parsed.errors.size(), 1u) << FormatErrors("f", parsed.errors);
  EXPECT_EQ(parsed.errors[0].line, GetParam().line);
  EXPECT_THAT(parsed.errors[0].message, HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Rows, ConfigErrorTest,
    ::testing::Values(
        BadCase{"colour: red\n", 5, "unknown key colour"},
        BadCase{"engine:\n  max_sequence: 4\n", 6, "unknown key engine.max_sequence"},
        BadCase{"threads: many\n", 5, "threads must be a whole number"},
        BadCase{"threads: [1]\n", 5, "threads must be a whole number"},
        BadCase{"admission:\n  max_requests: 100\n  max_tokens: -1\n", 7, "is -1"},
        BadCase{"drain_seconds: -1\n", 5, "drain_seconds is -1"},
        BadCase{"drain_seconds: .nan\n", 5, "drain_seconds"},
        BadCase{"listen: nowhere\n", 5, "HOST:PORT"},
        BadCase{"listen: 127.0.0.1:70000\n", 5, "HOST:PORT"},
        BadCase{"isa: sse9\n", 5, "isa must be one of"},
        BadCase{"deterministic: 1\n", 5, "true or false"},
        BadCase{"fast_prefill: true\ndeterministic: true\n", 5, "gives up what deterministic"},
        BadCase{"max_message_bytes: 99999999\n", 5, "max_message_bytes"},
        BadCase{"---\na: b\n", 5, "second document"},
        BadCase{"deadlines:\n  default_seconds: 20\n  max_seconds: 10\n", 6, "above max_seconds"},
        BadCase{"engine:\n  kv_blocks: 1\n  max_context: 512\n", 6, "32 tokens"},
        BadCase{"engine:\n  kv_bytes: 0\n", 6, "both 0"},
        BadCase{"engine:\n  inter_token_seconds: 0\n", 6, "must be 0.0001 to 1e6"},
        BadCase{"engine:\n  aging_seconds: soon\n", 6, "must be a number of seconds"},
        BadCase{"engine:\n  prefix_cache: maybe\n", 6, "true or false"},
        BadCase{"admission:\n  tenant:\n    max_requests: 0\n", 7, "is 0, must be 1 to"},
        BadCase{"admission:\n  variant: 5\n", 6, "admission.variant"},
        BadCase{"admission:\n  max_tokens: 64\nengine:\n  max_context: 512\n", 6, "max_context"},
        BadCase{"listen: 127.0.0.1:9090\n", 0, "same address"},
        BadCase{"tls: {certificate: a.crt}\n", 5, "needs both"},
        BadCase{"admin: 10.0.0.1:50053\n", 5, "must be a loopback address"},
        BadCase{"admin_tls: {certificate: a, key: b}\n", 5, "without admin"},
        BadCase{"max_peer_calls: -1\n", 5, "is -1"},
        BadCase{"max_connections: 0\n", 5, "is 0, must be 1 to 1048576"},
        BadCase{"max_peer_connections: 1048577\n", 5, "must be 0 to 1048576"},
        BadCase{"metrics_compat: sglang\n", 5, "must be one of none, vllm"},
        BadCase{"keys: []\n", 5, "keys is empty"},
        BadCase{"keys:\n  - {name: a, sha256: abc, services: [Models]}\n", 6, "64 lower-case"},
        BadCase{"keys:\n  - {name: a, services: [Training], sha256: "
                "d7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7}\n",
                6, "unknown service Training"},
        BadCase{"reflection: \"on\"\nkeys:\n  - {name: a, services: [Models], sha256: "
                "d7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7}\n",
                5, "cannot ask for a key"},
        BadCase{"threads: 1\nthreads: 2\n", 6, "given twice"},
        BadCase{"threads: {\n", 6, "not YAML"}));

TEST(ConfigTest, OneVariantIsThereAtTheStart) {
  const ParsedConfig good =
      Check("model: {path: m}\nvariants:\n  - {name: fp16}\n  - {name: nf4, at_start: false}\n");
  EXPECT_TRUE(good.errors.empty()) << FormatErrors("f", good.errors);
  EXPECT_TRUE(good.config.variants[0].at_start);
  EXPECT_FALSE(good.config.variants[1].at_start);
  const ParsedConfig bad = Check("model: {path: m}\nvariants:\n  - {name: nf4, at_start: false}\n");
  EXPECT_THAT(FormatErrors("f", bad.errors), HasSubstr("f:3: no variant is there at the start"));
}

TEST(ConfigTest, VariantsHaveSharesAndLimits) {
  const ParsedConfig parsed = Check(
      "model: {path: m}\n"
      "variants:\n"
      "  - {name: fp16, weight: 2.5}\n"
      "  - {name: nf4, kv_blocks: 40}\n"
      "admission: {tenant: {max_tokens: 7}, variant: {max_requests: 9}, max_wait_seconds: 1.5}\n"
      "engine: {kv_blocks: 100, inter_token_seconds: 0.05, prefix_cache: false}\n");
  EXPECT_TRUE(parsed.errors.empty()) << FormatErrors("f", parsed.errors);
  const EngineOptions& engine = parsed.config.engine;
  EXPECT_EQ(engine.weights, (std::vector<double>{2.5, 1}));
  EXPECT_EQ(engine.guaranteed_blocks, (std::vector<int64_t>{0, 40}));
  EXPECT_EQ(engine.admission.tenant.max_tokens, 7);
  EXPECT_EQ(engine.admission.variant.max_requests, 9);
  EXPECT_EQ(engine.admission.max_wait, absl::Milliseconds(1500));
  EXPECT_EQ(engine.inter_token_goal, absl::Milliseconds(50));
  EXPECT_FALSE(engine.prefix_cache);
  for (const auto& [line, text] :
       {std::pair(3, "{name: nf4, weight: 0}"), std::pair(3, "{name: nf4, weight: .nan}"),
        std::pair(3, "{name: nf4, kv_blocks: -1}"), std::pair(2, "{name: nf4, kv_blocks: 101}")}) {
    const ParsedConfig bad = Check(
        absl::StrCat("model: {path: m}\nvariants:\n  - ", text, "\nengine: {kv_blocks: 100}\n"));
    ASSERT_EQ(bad.errors.size(), 1u) << text;
    EXPECT_EQ(bad.errors[0].line, line) << text;
  }
}

TEST(ConfigTest, F51AllErrorsAreListedAtOnce) {
  const ParsedConfig parsed = Check(
      "model: {path: m.gguf}\n"
      "variants:\n"
      "  - {name: a, formats: [[\"*\", fp16]]}\n"
      "  - {name: a, formats: [[\"*\", fp17]]}\n"
      "colour: red\n"
      "threads: -1\n");
  std::vector<int> lines;
  for (const ConfigError& error : parsed.errors) lines.push_back(error.line);
  EXPECT_THAT(lines, ::testing::IsSupersetOf({4, 5, 6}));
  EXPECT_THAT(FormatErrors("f.yaml", parsed.errors), HasSubstr("f.yaml:5: unknown key colour"));
}

TEST(ConfigTest, F51DuplicateVariantAndNoVariant) {
  ParsedConfig twice = Check("model: {path: m}\nvariants:\n  - {name: nf4}\n  - {name: nf4}\n");
  ASSERT_EQ(twice.errors.size(), 1u);
  EXPECT_EQ(twice.errors[0].line, 4);
  ParsedConfig empty = Check("model: {path: m}\nvariants: []\n");
  ASSERT_EQ(empty.errors.size(), 1u);
  EXPECT_EQ(empty.errors[0].line, 2);
  ParsedConfig none = Check("model: {path: m}\n");
  ASSERT_EQ(none.errors.size(), 1u);
  EXPECT_THAT(none.errors[0].message, HasSubstr("no variant"));
}

TEST(ConfigTest, HostileYamlIsAnError) {
  EXPECT_FALSE(ParseConfig(std::string(200'000, '[')).errors.empty());
  EXPECT_FALSE(ParseConfig("a: &a [*a]\n").errors.empty());
  EXPECT_FALSE(ParseConfig(std::string(2 << 20, ' ')).errors.empty());
  EXPECT_FALSE(ParseConfig("- 1\n- 2\n").errors.empty());
  EXPECT_FALSE(ParseConfig("model: {path: m}}\nthreads: -1\n").errors.empty());
  EXPECT_FALSE(ParseConfig(",,,,mode: nf4}]\nengine: 4\n").errors.empty());  // once without end
  // yaml-cpp quotes the character that it does not know.
  for (const ConfigError& error : ParseConfig("m: \"\\\x01\"\n").errors) {
    EXPECT_EQ(error.message.find('\x01'), std::string::npos);
  }
}

CommandLine RunWith(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "vernierd");
  return ParseCommandLine(static_cast<int>(arguments.size()), arguments.data());
}

TEST(ConfigTest, FlagsAloneAreAConfiguration) {
  const CommandLine command = RunWith({"--model", "dir/SmolLM2.gguf", "--variants", "fp16,int8,nf4",
                                       "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"});
  EXPECT_TRUE(command.parsed.errors.empty()) << FormatErrors("", command.parsed.errors);
  EXPECT_EQ(command.parsed.config.variants.size(), 3u);
  const CommandLine int8_kv = RunWith({"--model", "m", "--variants", "nf4+kv8,nf4"});
  EXPECT_TRUE(int8_kv.parsed.errors.empty()) << FormatErrors("", int8_kv.parsed.errors);
  ASSERT_EQ(int8_kv.parsed.config.variants.size(), 2u);
  EXPECT_EQ(int8_kv.parsed.config.variants[0].kv, KvType::kInt8);
  EXPECT_EQ(int8_kv.parsed.config.variants[1].kv, KvType::kF16);
  EXPECT_EQ(command.parsed.config.EffectiveModelName(), "smollm2");
}

TEST(ConfigTest, BadFlagsAreUsageErrors) {
  EXPECT_EQ(RunWith({"--threads", "x"}).exit_code, 64);
  EXPECT_EQ(RunWith({"--nonsense"}).exit_code, 64);
  EXPECT_EQ(RunWith({"--config", "/nonexistent/file"}).exit_code, 64);
  EXPECT_EQ(RunWith({"--version"}).exit_code, 0);
  EXPECT_EQ(RunWith({"--model", "m", "--variants", "fp16,fp99"}).parsed.errors.size(), 1u);
  EXPECT_EQ(RunWith({"--model", "m", "--variants", "fp16,fp16"}).parsed.errors.size(), 1u);
}

TEST(ConfigTest, SavingIsOfRandomWeightsAlone) {
  const CommandLine command = RunWith({"--random-weights", "smollm2-135m", "--save", "dir"});
  EXPECT_EQ(command.exit_code, -1) << command.message;
  EXPECT_EQ(command.save_folder, "dir");
  EXPECT_EQ(command.random_weights, "smollm2-135m");
  EXPECT_EQ(RunWith({"--model", "m", "--save", "dir"}).exit_code, 64);
  EXPECT_EQ(RunWith({"--save", "dir"}).exit_code, 64);
}

TEST(ConfigTest, TheExampleIsGoodAndFlagsOverrideIt) {
  const std::string path = testing::TestDataPath("../../deploy/vernierd.example.yaml");
  const CommandLine command =
      RunWith({"--config", path.c_str(), "--listen", "127.0.0.1:7", "--check-config"});
  EXPECT_EQ(command.exit_code, -1) << command.message;
  EXPECT_TRUE(command.parsed.errors.empty()) << FormatErrors(path, command.parsed.errors);
  EXPECT_TRUE(command.check_config);
  EXPECT_EQ(command.parsed.config.listen, "127.0.0.1:7");
  // Every key is in the example, at its default: reading it changes nothing but what it must name.
  const ServerConfig defaults;
  EXPECT_EQ(command.parsed.config.max_message_bytes, defaults.max_message_bytes);
  EXPECT_EQ(command.parsed.config.engine.kv_bytes, defaults.engine.kv_bytes);
  EXPECT_EQ(command.parsed.config.drain, defaults.drain);
  EXPECT_GE(command.parsed.lines.size(), 32u);
}

}  // namespace
}  // namespace vernier
