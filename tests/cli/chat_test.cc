#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <set>

#include "tests/cli/fake_service.h"

namespace vernier::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<v1::GenerateStreamResponse> Reply(const std::string& text) {
  std::vector<v1::GenerateStreamResponse> messages(2);
  messages[0].mutable_delta()->set_text(text);
  messages[1].mutable_finish()->set_finish_reason(v1::EOS);
  return messages;
}

std::vector<std::string> Contents(const v1::GenerateRequest& request) {
  std::vector<std::string> out;
  for (const v1::ChatMessage& message : request.chat().messages()) {
    out.push_back(absl::StrCat(message.role(), ":", message.content()));
  }
  return out;
}

TEST(ChatCommandTest, TheHistoryGrowsWithEachTurn) {
  FakeServer server;
  server.inference.stream = Reply("yes");
  const Ran ran = server.Run({"chat", "--system", "s"}, {.input = "one\n\ntwo\n"});
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_EQ(ran.out, "yes\nyes\n");
  ASSERT_EQ(server.inference.generates.size(), 2u);
  EXPECT_THAT(Contents(server.inference.generates[1]),
              ElementsAre("system:s", "user:one", "assistant:yes", "user:two"));
}

TEST(ChatCommandTest, TemplateArgumentsOutliveAReset) {
  FakeServer server;
  server.inference.stream = Reply("yes");
  server.Run({"chat", "--template-arg", "think=false"}, {.input = "one\n/reset\ntwo\n"});
  ASSERT_EQ(server.inference.generates.size(), 2u);
  for (const v1::GenerateRequest& request : server.inference.generates) {
    EXPECT_EQ(request.chat().template_args().count("think"), 1u);
  }
}

TEST(ChatCommandTest, VariantSwitchesAndResetForgets) {
  FakeServer server;
  server.inference.stream = Reply("yes");
  server.Run({"chat"}, {.input = "one\n/variant nf4\ntwo\n/reset\nthree\n"});
  ASSERT_EQ(server.inference.generates.size(), 3u);
  EXPECT_EQ(server.inference.generates[0].variant(), "") << "an experiment may choose";
  EXPECT_EQ(server.inference.generates[1].variant(), "nf4");
  EXPECT_EQ(server.inference.generates[1].chat().messages_size(), 3);
  EXPECT_THAT(Contents(server.inference.generates[2]), ElementsAre("user:three"));
}

TEST(ChatCommandTest, APersonSeesTheArmAndTheVariantThatAnswered) {
  FakeServer server;
  server.inference.stream = Reply("yes");
  v1::ServedBy* served = server.inference.stream.emplace(server.inference.stream.begin())
                             ->mutable_start()
                             ->mutable_served_by();
  served->set_variant("nf4");
  served->set_experiment("canary");
  served->set_arm("treatment");
  served->set_exposure_id("01ab");
  const Ran ran =
      server.Run({"chat", "--routing-key", "ada"}, {.input = "one\n", .terminal = true});
  EXPECT_THAT(ran.err, HasSubstr("fp16> "));
  EXPECT_THAT(ran.err,
              HasSubstr("tokens/s; experiment canary, arm treatment, exposure 01ab]\nnf4> "));
  EXPECT_EQ(server.inference.routing_key, "ada");
}

TEST(ChatCommandTest, AConversationIsOneUnitAndAnotherOneIsAnother) {
  FakeServer server;
  server.inference.stream = Reply("yes");
  std::set<std::string> keys;
  const auto note = [&](const std::string&) { keys.insert(server.inference.routing_key); };
  server.Run({"chat"}, {.input = "one\ntwo\n", .on_flush = note});
  EXPECT_EQ(keys.size(), 1u);
  EXPECT_THAT(*keys.begin(), ::testing::StartsWith("chat-"));
  server.Run({"chat"}, {.input = "one\n", .on_flush = note});
  EXPECT_EQ(keys.size(), 2u);
}

TEST(ChatCommandTest, MistakesEndAScriptButNotAPerson) {
  FakeServer server;
  server.inference.stream = Reply("yes");
  const Ran script = server.Run({"chat"}, {.input = "/variant int3\none\n"});
  EXPECT_EQ(script.exit_code, 65);
  EXPECT_THAT(script.err, HasSubstr("served are fp16, nf4, not 'int3'"));
  EXPECT_TRUE(server.inference.generates.empty());
  const Ran person = server.Run({"chat"}, {.input = "/frob\none\n", .terminal = true});
  EXPECT_EQ(person.exit_code, 0);
  EXPECT_THAT(person.err, HasSubstr("there is no /frob"));
  EXPECT_EQ(server.inference.generates.size(), 1u);
}

TEST(ChatCommandTest, ATurnThatFailedIsForgotten) {
  FakeServer server;
  server.inference.status = {grpc::StatusCode::INTERNAL, "broken"};
  const Ran ran = server.Run({"chat"}, {.input = "one\ntwo\n", .terminal = true});
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_THAT(Contents(server.inference.generates[1]), ElementsAre("user:two"));
}

TEST(ChatCommandTest, CtrlCEndsTheReplyAndKeepsWhatWasWritten) {
  FakeServer server;
  server.inference.stream = Reply("half a rep");
  server.inference.stream.pop_back();
  server.inference.waits_for_cancel = true;
  bool interrupted = false;
  const auto interrupt = [&](const std::string& out) {
    if (!interrupted && out == "half a rep") interrupted = raise(SIGINT) == 0;
  };
  const Ran ran = server.Run({"chat"}, {.input = "one\n", .terminal = true, .on_flush = interrupt});
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_TRUE(interrupted);
  EXPECT_EQ(ran.out, "half a rep\n");
  EXPECT_THAT(ran.err, HasSubstr("[ended]"));
}

TEST(ChatCommandTest, CtrlCWithoutAReplyDoesNothing) {
  FakeServer server;
  server.inference.stream = Reply("yes");
  bool interrupted = false;
  const auto interrupt = [&](const std::string& out) {
    if (!interrupted && out == "yes\n") interrupted = raise(SIGINT) == 0;
  };
  const Ran ran = server.Run({"chat"}, {.input = "one\n", .on_flush = interrupt});
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_TRUE(interrupted);
  EXPECT_EQ(ran.out, "yes\n");
}

TEST(ChatCommandTest, AModelThatCannotChatSaysSo) {
  FakeServer server;
  server.models.model.set_has_chat_template(false);
  server.models.model.set_no_chat_reason("no template in the file");
  const Ran ran = server.Run({"chat"});
  EXPECT_EQ(ran.exit_code, 1);
  EXPECT_THAT(ran.err, HasSubstr("cannot chat (no template in the file)"));
}

TEST(ChatCommandTest, JsonIsTheConversation) {
  FakeServer server;
  server.inference.stream = Reply("yes");
  EXPECT_EQ(server.Run({"chat", "--json"}, {.input = "one\n"}).out,
            "{\"messages\":[{\"role\":\"user\",\"content\":\"one\",\"name\":\"\",\"tool_calls\":[],"
            "\"tool_call_id\":\"\",\"reasoning_content\":\"\"},"
            "{\"role\":\"assistant\",\"content\":\"yes\",\"name\":\"\",\"tool_calls\":[],\"tool_"
            "call_id\":\"\",\"reasoning_content\":\"\"}],\"add_generation_prompt\":null,\"tools\":"
            "\"\",\"template_args\":{}}\n");
}

}  // namespace
}  // namespace vernier::cli
