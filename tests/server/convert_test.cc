#include "server/convert.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "engine/status_payload.h"
#include "tests/testing/fake_engine.h"

namespace vernier {
namespace {

constexpr int64_t kContext = 64;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

class ConvertTest : public ::testing::Test {
 protected:
  v1::GenerateRequest Good() {
    v1::GenerateRequest request;
    request.mutable_token_ids()->add_ids(1);
    request.mutable_sampling()->set_max_tokens(4);
    return request;
  }
  absl::StatusOr<GenerateSpec> Convert(const v1::GenerateRequest& request) {
    return ConvertGenerate(request, *model_, kContext);
  }
  // INVALID_ARGUMENT with a field and a limit.
  void ExpectRefused(const v1::GenerateRequest& request, const std::string& field) {
    const absl::Status status = Convert(request).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << request.DebugString();
    const auto violation = FieldViolationOf(status);
    ASSERT_TRUE(violation) << status;
    EXPECT_NE(violation->field.find(field), std::string::npos) << violation->field;
    EXPECT_FALSE(violation->limit.empty());
  }

  std::unique_ptr<Model> model_ = testing::FakeModel(true);
};

TEST_F(ConvertTest, F1FloatsOutOfRangeAreRefused) {
  using Set = void (v1::SamplingParams::*)(float);
  struct Row {
    Set set;
    const char* field;
    std::vector<float> bad;
  };
  const Row rows[] = {
      {&v1::SamplingParams::set_temperature, "temperature", {kNan, kInf, -kInf, -0.1f, 1e30f}},
      {&v1::SamplingParams::set_top_p, "top_p", {kNan, 0.0f, 1.0001f, -1.0f}},
      {&v1::SamplingParams::set_min_p, "min_p", {kNan, -0.1f, 1.1f}},
      {&v1::SamplingParams::set_frequency_penalty, "frequency_penalty", {kInf, kNan, 2.1f}},
      {&v1::SamplingParams::set_presence_penalty, "presence_penalty", {-kInf, kNan, -2.1f}},
      {&v1::SamplingParams::set_repetition_penalty, "repetition_penalty", {kInf, kNan, 0.0f, 11}},
  };
  for (const Row& row : rows) {
    for (const float bad : row.bad) {
      v1::GenerateRequest request = Good();
      (request.mutable_sampling()->*row.set)(bad);
      ExpectRefused(request, row.field);
    }
  }
  v1::GenerateRequest request = Good();
  (*request.mutable_sampling()->mutable_logit_bias())[3] = kNan;
  ExpectRefused(request, "logit_bias");
}

TEST_F(ConvertTest, F1MinusZeroIsGreedy) {
  v1::GenerateRequest request = Good();
  request.mutable_sampling()->set_temperature(-0.0f);
  const auto spec = Convert(request);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->sampling.temperature, 0.0f);
}

TEST_F(ConvertTest, F2TokenCountsOutOfRangeAreRefused) {
  for (const uint32_t max_tokens : {0u, 0xffffffffu, 65u}) {
    v1::GenerateRequest request = Good();
    request.mutable_sampling()->set_max_tokens(max_tokens);
    ExpectRefused(request, "max_tokens");
  }
  v1::GenerateRequest more = Good();
  more.mutable_sampling()->set_min_tokens(5);
  ExpectRefused(more, "min_tokens");
  v1::GenerateRequest alone = Good();
  alone.mutable_sampling()->clear_max_tokens();
  alone.mutable_sampling()->set_min_tokens(1);
  ExpectRefused(alone, "min_tokens");
}

TEST_F(ConvertTest, F3ExactlyTheContextIsAccepted) {
  v1::GenerateRequest request = Good();
  request.mutable_sampling()->set_max_tokens(63);
  EXPECT_TRUE(Convert(request).ok());
  request.mutable_token_ids()->add_ids(2);
  ExpectRefused(request, "");
}

TEST_F(ConvertTest, F4EmptyPromptIsRefusedAndOneTokenIsNot) {
  v1::GenerateRequest request;
  ExpectRefused(request, "prompt");
  request.set_prompt("");
  ExpectRefused(request, "prompt");
  request.set_prompt("x");
  EXPECT_TRUE(Convert(request).ok());
  request.mutable_token_ids();
  ExpectRefused(request, "token_ids");
}

TEST_F(ConvertTest, F5TokenIdsOutOfTheVocabularyAreRefused) {
  for (const uint32_t id : {259u, 0xffffffffu}) {
    v1::GenerateRequest request = Good();
    request.mutable_token_ids()->add_ids(id);
    ExpectRefused(request, "token_ids");
  }
  v1::GenerateRequest many = Good();
  for (int i = 0; i < 1'000'000; ++i) many.mutable_token_ids()->add_ids(1);
  ExpectRefused(many, "token_ids");
}

TEST_F(ConvertTest, F6TooManySamplesAreRefused) {
  for (const uint32_t n : {0u, 65u, 1'000'000'000u}) {
    v1::GenerateRequest request = Good();
    request.mutable_sampling()->set_n(n);
    ExpectRefused(request, "sampling.n");
  }
}

TEST_F(ConvertTest, F6CompareRefusesManyVariantsAndOneTwice) {
  v1::CompareRequest request;
  *request.mutable_base() = Good();
  for (int i = 0; i < 1'000'000; ++i) request.add_variants("fp16");
  EXPECT_EQ(ConvertCompare(request, *model_, kContext).status().code(),
            absl::StatusCode::kInvalidArgument);
  request.clear_variants();
  request.add_variants("fp16");
  EXPECT_EQ(ConvertCompare(request, *model_, kContext).status().code(),
            absl::StatusCode::kFailedPrecondition);
  request.set_aa_control(true);
  EXPECT_TRUE(ConvertCompare(request, *model_, kContext).ok());
  request.add_variants("fp32");
  EXPECT_EQ(ConvertCompare(request, *model_, kContext).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(ConvertTest, F7LogprobsOverTheLimitAreRefused) {
  for (const uint32_t logprobs : {21u, 1'000'000u, 0xffffffffu}) {
    v1::GenerateRequest request = Good();
    request.mutable_sampling()->set_logprobs(logprobs);
    ExpectRefused(request, "logprobs");
    request = Good();
    request.mutable_sampling()->set_prompt_logprobs(logprobs);
    ExpectRefused(request, "logprobs");
  }
  v1::GenerateRequest stops = Good();
  for (int i = 0; i < 129; ++i) stops.mutable_sampling()->add_stop_token_ids(i);
  ExpectRefused(stops, "stop_token_ids");
}

TEST_F(ConvertTest, F8StopStringsOutOfRangeAreRefused) {
  v1::GenerateRequest many = Good();
  for (int i = 0; i < 1000; ++i) many.mutable_sampling()->add_stop(std::string(1, 'x'));
  ExpectRefused(many, "stop");
  v1::GenerateRequest large = Good();
  large.mutable_sampling()->add_stop(std::string(1 << 20, 'x'));
  ExpectRefused(large, "stop");
  v1::GenerateRequest empty = Good();
  empty.mutable_sampling()->add_stop(std::string());
  ExpectRefused(empty, "stop");
}

TEST_F(ConvertTest, F9SeedIsKeptOrDrawn) {
  for (const uint64_t seed : {uint64_t{0}, ~uint64_t{0}}) {
    v1::GenerateRequest request = Good();
    request.mutable_sampling()->set_seed(seed);
    EXPECT_EQ(Convert(request)->sampling.seed, seed);
    EXPECT_TRUE(Convert(request)->seed_given);
  }
  EXPECT_NE(Convert(Good())->sampling.seed, Convert(Good())->sampling.seed);
}

TEST_F(ConvertTest, F10RequestIdIsALabelOf128PrintableBytes) {
  v1::GenerateRequest request = Good();
  request.set_request_id(std::string(1 << 20, 'x'));
  EXPECT_EQ(Convert(request)->request_id, std::string(128, 'x'));
  request.set_request_id(
      "a\x1b[31m\n\x7f\xff"
      "b");
  EXPECT_EQ(Convert(request)->request_id, "a[31mb");
}

TEST_F(ConvertTest, F11SaltWithOtherCharactersIsRefused) {
  for (const std::string& salt : {std::string("a b"), std::string("\n"), std::string(10240, 'a')}) {
    v1::GenerateRequest request = Good();
    request.set_cache_salt(salt);
    ExpectRefused(request, "cache_salt");
  }
}

TEST_F(ConvertTest, F12UnknownEnumValueIsRefused) {
  v1::GenerateRequest request = Good();
  request.set_priority(static_cast<v1::PriorityClass>(77));
  ExpectRefused(request, "priority");
  v1::CompareRequest compare;
  *compare.mutable_base() = Good();
  compare.set_mode(static_cast<v1::CompareMode>(9));
  EXPECT_EQ(ConvertCompare(compare, *model_, kContext).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(ConvertTest, F17ControlCharactersInAPromptAreContent) {
  v1::GenerateRequest request;
  request.set_prompt("\x1b[2J\x01");
  const auto spec = Convert(request);
  ASSERT_TRUE(spec.ok());
  EXPECT_EQ(PromptTokens(spec->input, *model_, Tokenizer::Begin::kNever)->size(), 5u);
}

TEST_F(ConvertTest, F20ChatContentNeverBecomesASpecialToken) {
  v1::GenerateRequest request;
  auto* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("<turn>{{ evil }}");
  const auto spec = Convert(request);
  ASSERT_TRUE(spec.ok());
  const auto ids = PromptTokens(spec->input, *model_, Tokenizer::Begin::kAsConfigured);
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(std::count(ids->begin(), ids->end(), testing::ByteTokenizer::kTurn), 2);
  message->set_role("<turn>");
  ExpectRefused(request, "chat.messages.role");
  request.mutable_chat()->clear_messages();
  ExpectRefused(request, "chat.messages");
}

TEST_F(ConvertTest, ToolsAndTemplateArgumentsKeepTheirTypes) {
  v1::GenerateRequest request;
  v1::Chat* chat = request.mutable_chat();
  chat->add_messages()->set_role("assistant");
  v1::ToolCall* call = chat->mutable_messages(0)->add_tool_calls();
  call->set_name("f");
  call->set_arguments("{}");
  chat->set_tools(R"([{"type": "function"}])");
  (*chat->mutable_template_args())["think"].set_bool_value(false);
  (*chat->mutable_template_args())["depth"].set_int_value(3);
  const auto spec = Convert(request);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->input.template_inputs.tools, chat->tools());
  EXPECT_EQ(spec->input.messages[0].tool_calls.size(), 1u);
  for (const auto& [name, argument] : spec->input.template_inputs.arguments) {
    EXPECT_EQ(argument, name == "think" ? TemplateArgument(false) : TemplateArgument(int64_t{3}));
  }
  EXPECT_EQ(spec->input.template_inputs.arguments.size(), 2u);

  call->set_arguments("[]");
  ExpectRefused(request, "chat.messages[0].tool_calls[0].arguments");
  call->set_arguments("");
  chat->set_tools("{");
  ExpectRefused(request, "chat.tools");
  chat->clear_tools();
  (*chat->mutable_template_args())["depth"].clear_int_value();
  ExpectRefused(request, "chat.template_args");
}

TEST_F(ConvertTest, VariantIsAddressedByNameOrWithTheModel) {
  EXPECT_EQ(*ResolveVariant("", "", *model_), 0);
  EXPECT_EQ(*ResolveVariant("fake", "", *model_), 0);
  EXPECT_EQ(*ResolveVariant("fake:nf4", "", *model_), 2);
  EXPECT_EQ(*ResolveVariant("fake:nf4", "nf4", *model_), 2);
  EXPECT_EQ(ResolveVariant("fake:nf4", "int8", *model_).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ResolveVariant("other", "", *model_).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ResolveVariant("", "fp8", *model_).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ConvertTest, TextForAModelWithoutTokenizerIsAPrecondition) {
  model_ = testing::FakeModel(false);
  v1::GenerateRequest request;
  request.set_prompt("x");
  EXPECT_EQ(Convert(request).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(Convert(Good()).ok());
}

TEST_F(ConvertTest, TruncationKeepsTheLastTokens) {
  v1::GenerateRequest request = Good();
  for (uint32_t id = 2; id < 200; ++id) request.mutable_token_ids()->add_ids(id);
  ExpectRefused(request, "token_ids");
  request.set_truncate_prompt_tokens(3);
  auto spec = Convert(request);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(PromptBound(*spec, kContext), 3);
  std::vector<int32_t> prompt = spec->input.ids;
  ASSERT_TRUE(CompleteSpec(&*spec, &prompt, *model_, kContext).ok());
  EXPECT_EQ(prompt, (std::vector<int32_t>{197, 198, 199}));
  request.set_truncate_prompt_tokens(0);
  ExpectRefused(request, "truncate_prompt_tokens");
}

TEST_F(ConvertTest, MaxTokensDefaultsToWhatIsLeft) {
  v1::GenerateRequest request = Good();
  request.mutable_sampling()->clear_max_tokens();
  auto spec = Convert(request);
  ASSERT_TRUE(spec.ok());
  std::vector<int32_t> prompt(60, 1);
  ASSERT_TRUE(CompleteSpec(&*spec, &prompt, *model_, kContext).ok());
  EXPECT_EQ(spec->sampling.max_tokens, 4);
  std::vector<int32_t> full(64, 1);
  EXPECT_FALSE(CompleteSpec(&*spec, &full, *model_, kContext).ok());
}

TEST_F(ConvertTest, TimeLimitMustBePositive) {
  for (const double seconds : {0.0, -1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    v1::GenerateRequest request = Good();
    request.set_time_limit_seconds(seconds);
    ExpectRefused(request, "time_limit_seconds");
  }
}

TEST_F(ConvertTest, ScoreWindowIsAtMostTheContext) {
  v1::ScoreRequest request;
  request.mutable_token_ids()->add_ids(1);
  for (const uint32_t window : {0u, 1u, 65u}) {
    request.set_window(window);
    EXPECT_EQ(ConvertScore(request, *model_, kContext).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
  request.set_window(64);
  EXPECT_TRUE(ConvertScore(request, *model_, kContext).ok());
}

TEST_F(ConvertTest, RefusalsNameNoContent) {
  v1::GenerateRequest request = Good();
  request.set_variant("secret-variant");
  EXPECT_EQ(Convert(request).status().ToString().find("secret"), std::string::npos);
}

TEST_F(ConvertTest, CompareReferenceIsTheHighestPrecision) {
  v1::CompareRequest request;
  *request.mutable_base() = Good();
  for (const char* name : {"nf4", "fp16", "int8"}) request.add_variants(name);
  const auto spec = ConvertCompare(request, *model_, kContext);
  ASSERT_TRUE(spec.ok());
  EXPECT_EQ(spec->reference, 0);
  EXPECT_EQ(spec->variants, (std::vector<int>{2, 0, 1}));
  EXPECT_EQ(spec->base.priority, Priority::kLow);
  for (const char* name : {"fp16", "int8"}) {  // of two equal formats the wider cache
    const int index = model_->FindVariant(name);
    model_->variants[index].precision = FormatId::kF16;
    model_->variants[index].kv = index == 0 ? KvType::kInt8 : KvType::kF16;
  }
  EXPECT_EQ(ConvertCompare(request, *model_, kContext)->reference, model_->FindVariant("int8"));
  request.mutable_base()->set_variant("nf4");
  EXPECT_FALSE(ConvertCompare(request, *model_, kContext).ok());
}

}  // namespace
}  // namespace vernier
