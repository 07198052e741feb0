// Every command over real gRPC against answers that the test sets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/cli/fake_service.h"

namespace vernier::cli {
namespace {

using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::vector<v1::GenerateStreamResponse> Stream(const std::vector<std::string>& texts) {
  std::vector<v1::GenerateStreamResponse> messages(1);
  v1::ServedBy* served = messages[0].mutable_start()->mutable_served_by();
  served->set_model("tiny");
  served->set_variant("fp16");
  served->set_precision("fp16");
  served->set_source("q4_1 (dequantized)");
  served->set_seed(42);
  uint32_t id = 10;
  for (const std::string& text : texts) {
    v1::Delta* delta = messages.emplace_back().mutable_delta();
    delta->set_text(text);
    delta->add_token_ids(id++);
  }
  v1::Finish* finish = messages.emplace_back().mutable_finish();
  finish->set_finish_reason(v1::EOS);
  finish->mutable_usage()->set_completion_tokens(texts.size());
  return messages;
}

nlohmann::json Parsed(const std::string& text) {
  return nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
}

TEST(GenerateCommandTest, TextGoesToStdoutAndWhoServedItToStderr) {
  FakeServer server;
  server.inference.stream = Stream({"Hello", ", world"});
  const Ran ran = server.Run({"generate", "--temperature", "0", "hi"});
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_EQ(ran.out, "Hello, world\n");
  EXPECT_THAT(ran.err, HasSubstr("source: q4_1 (dequantized)"));
  EXPECT_THAT(ran.err, HasSubstr("seed 42"));
  EXPECT_THAT(ran.err, HasSubstr("EOS"));
  EXPECT_EQ(server.Run({"generate", "-q", "hi"}).err, "");
}

TEST(GenerateCommandTest, WhoServedItIncludesTheExperiment) {
  FakeServer server;
  server.inference.stream = Stream({"Hello"});
  v1::ServedBy* served = server.inference.stream[0].mutable_start()->mutable_served_by();
  served->set_experiment("canary");
  served->set_exposure_id("01ab");
  EXPECT_THAT(server.Run({"generate", "hi"}).err,
              HasSubstr("; experiment canary, no arm, exposure 01ab, seed 42"));
  *server.inference.generate_reply.mutable_served_by() = *served;
  const nlohmann::json json = Parsed(server.Run({"generate", "--json", "hi"}).out);
  EXPECT_EQ(json["served_by"]["experiment"], "canary");
  EXPECT_EQ(json["served_by"]["exposure_id"], "01ab");
  EXPECT_EQ(server.Run({"generate", "--routing-key", "a\nb", "hi"}).exit_code, 64);
}

TEST(GenerateCommandTest, APromptIsAChatWhereTheModelCan) {
  FakeServer server;
  server.Run({"generate", "--system", "Be brief.", "hi"});
  ASSERT_EQ(server.inference.generate.chat().messages_size(), 2);
  EXPECT_EQ(server.inference.generate.chat().messages(0).role(), "system");
  EXPECT_EQ(server.inference.generate.chat().messages(1).role(), "user");
  EXPECT_EQ(server.inference.generate.chat().messages(1).content(), "hi");
  server.Run({"generate", "--raw", "hi"});
  EXPECT_EQ(server.inference.generate.prompt(), "hi");
  server.models.model.set_has_chat_template(false);
  server.Run({"generate", "hi"});
  EXPECT_EQ(server.inference.generate.prompt(), "hi");
  server.Run({"generate", "--chat", "hi"});
  EXPECT_TRUE(server.inference.generate.has_chat());
  server.Run({"generate", "--ids", "1,2,3"});
  EXPECT_THAT(server.inference.generate.token_ids().ids(), ElementsAre(1, 2, 3));
}

TEST(GenerateCommandTest, ToolsAndTypedTemplateArgumentsAreSent) {
  FakeServer server;
  const std::vector<std::string> command = {"generate",
                                            "--tools",
                                            "-",
                                            "--template-arg",
                                            "think=false",
                                            "--template-arg",
                                            "depth=3",
                                            "--template-arg",
                                            "scale=0.5",
                                            "--template-arg",
                                            "date=26 Jul 2024",
                                            "--template-arg",
                                            "quoted=\"1\"",
                                            "hi"};
  const Ran ran = server.Run(command, {.input = "[{\"type\": \"function\"}]"});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  const v1::Chat& chat = server.inference.generate.chat();
  EXPECT_EQ(chat.tools(), "[{\"type\": \"function\"}]");
  const auto& arguments = chat.template_args();
  ASSERT_EQ(arguments.size(), 5u);
  EXPECT_EQ(arguments.at("think").value_case(), v1::TemplateValue::kBoolValue);
  EXPECT_EQ(arguments.at("depth").int_value(), 3);
  EXPECT_EQ(arguments.at("scale").double_value(), 0.5);
  EXPECT_EQ(arguments.at("date").string_value(), "26 Jul 2024");
  EXPECT_EQ(arguments.at("quoted").string_value(), "1");

  for (const char* bad : {"think", "=1", "a=[1]", "a=null", "a=18446744073709551615"}) {
    EXPECT_EQ(server.Run({"generate", "--template-arg", bad, "hi"}).exit_code, 65) << bad;
  }
  EXPECT_EQ(server.Run({"generate", "--raw", "--template-arg", "a=1", "hi"}).exit_code, 65);
  EXPECT_EQ(server.Run({"generate", "--ids", "1", "--template-arg", "a=1"}).exit_code, 65);
}

TEST(GenerateCommandTest, StandardInputIsThePromptWithoutItsLastNewline) {
  FakeServer server;
  server.Run({"generate", "--raw"}, {.input = "two\nlines\n"});
  EXPECT_EQ(server.inference.generate.prompt(), "two\nlines");
  server.Run({"generate", "--raw", "-"}, {.input = "x"});
  EXPECT_EQ(server.inference.generate.prompt(), "x");
  const Ran empty = server.Run({"generate"}, {.input = "\n"});
  EXPECT_EQ(empty.exit_code, 65);
  EXPECT_EQ(empty.err, "vernier: the prompt is empty\n");
  const Ran bad = server.Run({"generate"}, {.input = "a\xff"});
  EXPECT_EQ(bad.exit_code, 65);
  EXPECT_THAT(bad.err, HasSubstr("not UTF-8: see byte 1"));
}

TEST(GenerateCommandTest, EscapesOfTheModelReachFilesButNotTerminals) {
  FakeServer server;
  server.inference.stream = Stream({"\x1b[2J"});
  EXPECT_EQ(server.Run({"generate", "-q", "hi"}).out, "\x1b[2J\n");
  EXPECT_EQ(server.Run({"generate", "-q", "hi"}, {.terminal = true}).out, "␛[2J\n");
}

TEST(GenerateCommandTest, AModelWithoutTokenizerShowsIds) {
  FakeServer server;
  server.models.model.set_has_tokenizer(false);
  server.models.model.set_has_chat_template(false);
  server.inference.stream = Stream({"", ""});
  EXPECT_EQ(server.Run({"generate", "-q", "--ids", "1"}).out, "10 11\n");
}

TEST(GenerateCommandTest, JsonIsOneObject) {
  FakeServer server;
  server.inference.generate_reply.mutable_served_by()->set_seed(~uint64_t{0});
  server.inference.generate_reply.add_completions()->set_text("hello");
  const Ran ran = server.Run({"generate", "--json", "hi"});
  const nlohmann::json json = Parsed(ran.out);
  EXPECT_EQ(json["completions"][0]["text"], "hello");
  EXPECT_EQ(json["served_by"]["seed"], ~uint64_t{0});
  EXPECT_EQ(ran.err, "");
}

TEST(GenerateCommandTest, LogprobsFollowTheText) {
  FakeServer server;
  server.inference.stream = Stream({"a"});
  v1::TokenLogprob* chosen =
      server.inference.stream[1].mutable_delta()->add_logprobs()->mutable_chosen();
  chosen->set_token_id(10);
  chosen->set_logprob(-0.25f);
  chosen->set_token("\n\xf0");
  const Ran ran = server.Run({"generate", "--logprobs", "0", "hi"});
  EXPECT_THAT(ran.out, HasSubstr("       0  10  -0.2500  \"\\n\\xf0\"\n"));
}

TEST(GenerateCommandTest, AStreamThatBreaksIsAFailure) {
  FakeServer server;
  server.inference.stream = Stream({"half"});
  server.inference.stream.pop_back();
  server.inference.status = {grpc::StatusCode::INTERNAL, "internal error, incident 7"};
  const Ran ran = server.Run({"generate", "hi"});
  EXPECT_EQ(ran.exit_code, 1);
  EXPECT_EQ(ran.out, "half\n");
  EXPECT_EQ(ran.err, "vernier: internal error, incident 7\n");
}

TEST(GenerateCommandTest, ADeadlineEndsTheCall) {
  FakeServer server;
  server.inference.waits_for_cancel = true;
  const Ran ran = server.Run({"generate", "--timeout", "0.05", "hi"});
  EXPECT_EQ(ran.exit_code, 1);
  EXPECT_THAT(ran.err, StartsWith("vernier: the deadline passed"));
}

TEST(GenerateCommandTest, RefusalsHaveTheirExitCodes) {
  FakeServer server;
  server.inference.status = {grpc::StatusCode::INVALID_ARGUMENT, "top_p is 2"};
  EXPECT_EQ(server.Run({"generate", "hi"}).exit_code, 65);
  server.inference.status = {grpc::StatusCode::RESOURCE_EXHAUSTED, "full"};
  EXPECT_EQ(server.Run({"generate", "hi"}).exit_code, 69);
  server.models.status = {grpc::StatusCode::UNAVAILABLE, "the model is still loading"};
  const Ran ran = server.Run({"generate", "hi"});
  EXPECT_EQ(ran.exit_code, 69);
  EXPECT_EQ(ran.err, "vernier: unavailable: the model is still loading\n");
}

TEST(GenerateCommandTest, WithoutAServerEveryCommandSaysHowToStartOne) {
  FakeServer server;
  server.Stop();
  for (const auto& command : std::vector<std::vector<std::string>>{
           {"generate", "hi"}, {"compare", "hi"}, {"score", "hi"}, {"models"}, {"chat"}}) {
    const Ran ran = server.Run(command);
    EXPECT_EQ(ran.exit_code, 69) << command[0];
    EXPECT_THAT(ran.err, HasSubstr("is vernierd running?")) << command[0];
    EXPECT_EQ(ran.out, "");
  }
}

TEST(CompareCommandTest, ShowsTheSummary) {
  FakeServer server;
  for (const char* name : {"fp16", "nf4"}) {
    v1::VariantResult* result = server.evaluation.summary.add_results();
    result->mutable_served_by()->set_variant(name);
    result->mutable_served_by()->set_source("bf16");
    result->mutable_completion()->set_text("text");
  }
  const Ran ran = server.Run({"compare", "--variants", "fp16,nf4", "--mode", "free", "hi"});
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_THAT(ran.out, HasSubstr("source: bf16"));
  EXPECT_THAT(ran.out, Not(HasSubstr("itself quantized")));
  EXPECT_EQ(ran.err, "");
  EXPECT_TRUE(server.evaluation.compare.base().has_chat());
  EXPECT_THAT(server.evaluation.compare.variants(), ElementsAre("fp16", "nf4"));
  const Ran json = server.Run({"compare", "--json", "hi"});
  EXPECT_EQ(Parsed(json.out)["results"].size(), 2u);
  EXPECT_TRUE(Parsed(json.out)["results"][0]["forced"].is_null());
}

TEST(CompareCommandTest, ATerminalSeesProgressWhichIsErased) {
  FakeServer server;
  server.evaluation.summary.add_results()->mutable_served_by()->set_variant("fp16");
  const Ran ran = server.Run({"compare", "hi"}, {.terminal = true});
  EXPECT_THAT(ran.err, HasSubstr("fp16 1"));
  EXPECT_THAT(ran.err, ::testing::EndsWith("\r\x1b[K"));
}

TEST(CompareCommandTest, AFailedVariantIsAFailureAfterTheReport) {
  FakeServer server;
  v1::VariantResult* result = server.evaluation.summary.add_results();
  result->mutable_served_by()->set_variant("nf4");
  result->set_status_code(13);
  result->set_status_message("broken");
  const Ran ran = server.Run({"compare", "hi"});
  EXPECT_EQ(ran.exit_code, 1);
  EXPECT_THAT(ran.out, HasSubstr("nf4 failed"));
  EXPECT_EQ(ran.err, "vernier: nf4 failed: broken\n");
}

TEST(CompareCommandTest, AStreamWithoutItsSummaryIsAFailure) {
  FakeServer server;
  EXPECT_EQ(server.Run({"compare", "hi"}).exit_code, 1);
}

v1::ScoreResponse Scored(const v1::ScoreRequest& request) {
  v1::ScoreResponse reply;
  *reply.mutable_token_ids() = request.token_ids().ids();
  for (int i = 1; i < request.token_ids().ids_size(); ++i) {
    reply.add_positions(i);
    reply.add_tokens()->mutable_chosen()->set_logprob(-1);
  }
  return reply;
}

TEST(ScoreCommandTest, ShowsTokensSumAndPerplexity) {
  FakeServer server;
  v1::ScoreResponse& reply = server.inference.score_reply;
  for (const uint32_t id : {1, 5}) reply.add_token_ids(id);
  reply.add_positions(1);
  reply.add_tokens()->mutable_chosen()->set_token_id(5);
  reply.mutable_tokens(0)->mutable_chosen()->set_logprob(-2);
  reply.set_sum_logprob(-2);
  reply.set_scored_tokens(1);
  reply.set_perplexity(7.389);
  reply.set_truncated(true);
  const Ran ran = server.Run({"score", "--variant", "nf4", "text"});
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_THAT(ran.out, HasSubstr("1 of 2 tokens scored; sum -2.0000 nats; perplexity 7.3890"));
  EXPECT_THAT(ran.out, HasSubstr("truncated"));
  EXPECT_EQ(server.inference.scores[0].text(), "text");
  EXPECT_EQ(server.inference.scores[0].variant(), "nf4");
  EXPECT_TRUE(Parsed(server.Run({"score", "--json", "text"}).out)["truncated"].get<bool>());
}

TEST(ScoreCommandTest, AFileIsTakenByteForByte) {
  FakeServer server;
  const std::string path = ::testing::TempDir() + "/vernier_score_test.txt";
  std::ofstream(path) << "a line\n";
  server.Run({"score", "--file", path});
  EXPECT_EQ(server.inference.scores[0].text(), "a line\n");
  std::filesystem::remove(path);
  const Ran ran = server.Run({"score", "--file", path});
  EXPECT_EQ(ran.exit_code, 65);
  EXPECT_THAT(ran.err, HasSubstr("cannot open"));
}

TEST(ScoreCommandTest, NothingScoredHasNullPerplexity) {
  FakeServer server;
  server.inference.score_reply.set_perplexity(std::numeric_limits<double>::quiet_NaN());
  EXPECT_TRUE(Parsed(server.Run({"score", "--json", "x"}).out)["perplexity"].is_null());
  EXPECT_THAT(server.Run({"score", "x"}).out, HasSubstr("perplexity -"));
}

TEST(ScoreCommandTest, AStrideScoresOverlappingWindowsOnce) {
  FakeServer server;
  server.inference.score_each = Scored;
  const Ran ran = server.Run({"score", "--json", "--window", "4", "--stride", "2", "abcdefgh"});
  const nlohmann::json json = Parsed(ran.out);
  EXPECT_EQ(json["scored_tokens"], 7);
  EXPECT_EQ(json["positions"], nlohmann::json({1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(json["token_ids"].size(), 8u);
  EXPECT_EQ(server.inference.scores.size(), 3u);
  EXPECT_EQ(server.Run({"score", "--window", "4", "--stride", "4", "x"}).exit_code, 64);
}

TEST(ModelsCommandTest, ShowsMemoryByComponentAndSource) {
  FakeServer server;
  server.models.model.set_source("q4_1 (dequantized)");
  server.models.model.set_source_is_quantized(true);
  server.models.model.set_kv_pool_bytes(uint64_t{512} << 20);
  server.models.model.mutable_variants(0)->set_state(v1::READY);
  server.models.model.mutable_variants(1)->add_tied_copies("lm_head");
  const Ran ran = server.Run({"models"});
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_THAT(ran.out, HasSubstr("512.0 MiB"));
  EXPECT_THAT(ran.out, HasSubstr("ready"));
  EXPECT_THAT(ran.out, HasSubstr("The file itself is quantized"));
  EXPECT_THAT(ran.out, HasSubstr("nf4 stores lm_head twice"));
  const nlohmann::json json = Parsed(server.Run({"models", "--json"}).out);
  EXPECT_EQ(json["models"][0]["kv_pool_bytes"], uint64_t{512} << 20);
}

TEST(ModelsCommandTest, AFormatIsShownAsVariantsTakesIt) {
  FakeServer server;
  v1::Variant* variant = server.models.model.mutable_variants(0);
  variant->set_precision("int8");
  const std::pair<const char*, const char*> known[] = {{"full", "int8"},
                                                       {"int8", "int8[+]a8"},
                                                       {"llm-int8", "int8[+]llm8"},
                                                       {"bf16", "int8[+]abf16"},
                                                       {"later", "int8"}};
  for (const auto& [activations, shown] : known) {
    variant->set_activations(activations);
    const Ran ran = server.Run({"models"});
    EXPECT_THAT(ran.out, ContainsRegex(absl::StrCat(variant->name(), " +", shown, " ")));
  }
}

}  // namespace
}  // namespace vernier::cli
