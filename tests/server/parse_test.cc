#include "server/parse.h"

#include <gtest/gtest.h>

#include "engine/status_payload.h"
#include "vernier/v1/inference.pb.h"

namespace vernier {
namespace {

constexpr int64_t kMax = 1 << 20;

absl::Status Parse(const std::string& bytes) {
  v1::GenerateRequest message;
  return ParseMessage(bytes, kMax, &message);
}

TEST(ParseTest, F13GarbageIsInvalid) {
  for (const std::string& bytes : {std::string("\xff\xff\xff"), std::string("\x0a"),
                                   std::string("\x00\x00", 2), std::string(100, '\x0b')}) {
    EXPECT_EQ(Parse(bytes).code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(ParseTest, F13EveryTruncationIsInvalidOrAShorterMessage) {
  v1::GenerateRequest message;
  message.mutable_chat()->add_messages()->set_content("hello");
  message.mutable_sampling()->set_seed(1234567890123);
  message.set_request_id("label");
  const std::string whole = message.SerializeAsString();
  for (size_t cut = 0; cut < whole.size(); ++cut) {
    const absl::Status status = Parse(whole.substr(0, cut));
    EXPECT_TRUE(status.ok() || status.code() == absl::StatusCode::kInvalidArgument) << cut;
  }
  EXPECT_EQ(Parse(whole.substr(0, whole.size() - 1)).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(Parse(whole).ok());
}

TEST(ParseTest, F13BadUtf8IsInvalid) {
  EXPECT_EQ(Parse("\x0a\x02\xc3\x28").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Parse("\x0a\x03\xed\xa0\x80").code(), absl::StatusCode::kInvalidArgument);
}

TEST(ParseTest, F13DeepNestingIsInvalid) {
  // Groups of an unknown field, each inside the other.
  std::string deep;
  for (int i = 0; i < 150; ++i) deep += "\xa3\x06";
  for (int i = 0; i < 150; ++i) deep += "\xa4\x06";
  EXPECT_EQ(Parse(deep).code(), absl::StatusCode::kInvalidArgument);
  std::string shallow = "\xa3\x06\xa4\x06";
  EXPECT_TRUE(Parse(shallow).ok());
}

TEST(ParseTest, F13AMillionEmptyEntriesAreRefusedBeforeTheyAreMade) {
  std::string entries;  // chat.messages, empty ones
  for (int i = 0; i < 400'000; ++i) entries += std::string("\x0a\x00", 2);
  const auto length = static_cast<uint32_t>(entries.size());
  std::string bytes = "\x1a";
  for (uint32_t rest = length; true; rest >>= 7) {
    bytes += static_cast<char>(rest < 0x80 ? rest : (rest & 0x7f) | 0x80);
    if (rest < 0x80) break;
  }
  const absl::Status status = Parse(bytes + entries);
  ASSERT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FieldViolationOf(status)->value, "too many entries");
}

TEST(ParseTest, F12UnknownFieldsAreIgnoredAndTheLastOfAOneofWins) {
  v1::GenerateRequest message;
  const std::string bytes = std::string("\x0a\x01") + "a" + "\x12\x03\x0a\x01\x05" + "\x98\x06\x01";
  ASSERT_TRUE(ParseMessage(bytes, kMax, &message).ok());
  EXPECT_EQ(message.input_case(), v1::GenerateRequest::kTokenIds);
}

TEST(ParseTest, F14TooLargeIsExhaustedAndARetryCannotHelp) {
  const absl::Status status = Parse(std::string(kMax + 1, 'x'));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_LT(*RetryAfterOf(status), absl::ZeroDuration());
}

TEST(ParseTest, TextThatLooksLikeManyEntriesIsText) {
  v1::GenerateRequest message;
  message.set_prompt(std::string(900'000, '\n'));
  v1::GenerateRequest parsed;
  EXPECT_TRUE(ParseMessage(message.SerializeAsString(), kMax, &parsed).ok());
}

}  // namespace
}  // namespace vernier
