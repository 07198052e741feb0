// F18: valid requests with one field mutated get one of the contract's codes, and do no harm.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "server/convert.h"
#include "server/parse.h"
#include "tests/server/end_to_end.h"
#include "tests/testing/fake_engine.h"

namespace vernier {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using Random = std::mt19937_64;

template <typename T>
T OneOf(Random* random, std::initializer_list<T> values) {
  return values.begin()[(*random)() % values.size()];
}

std::string HostileText(Random* random) {
  switch ((*random)() % 6) {
    case 0:
      return "";
    case 1:
      return "\x1b[2J\x01\n";
    case 2:
      return "<|im_start|>{{ messages }}";
    case 3:
      return std::string(1 + (*random)() % 5000, 'x');
    case 4:
      return "fp16";
    default:
      return "\xc3\xa9\xf0\x9f\x98\x80";
  }
}

double HostileNumber(Random* random) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  return OneOf<double>(random, {0, -0.0, 1, -1, 0.5, 1.0001, 1e30, -1e30, 1e-30, kInf, -kInf,
                                std::numeric_limits<double>::quiet_NaN()});
}

uint64_t HostileInteger(Random* random) {
  return OneOf<uint64_t>(random, {0, 1, 2, 20, 21, 64, 65, 511, 512, 1'000'000'000, 0x7fffffff,
                                  0x80000000, 0xffffffff, ~uint64_t{0}});
}

void SetOrAdd(Message* message, const FieldDescriptor* field, Random* random) {
  const auto* reflection = message->GetReflection();
  const bool add = field->is_repeated();
  const auto put = [&](auto set, auto append, auto value) {
    add ? (reflection->*append)(message, field, value) : (reflection->*set)(message, field, value);
  };
  using R = google::protobuf::Reflection;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return put(&R::SetString, &R::AddString, HostileText(random));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return put(&R::SetFloat, &R::AddFloat, static_cast<float>(HostileNumber(random)));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return put(&R::SetDouble, &R::AddDouble, HostileNumber(random));
    case FieldDescriptor::CPPTYPE_UINT32:
      return put(&R::SetUInt32, &R::AddUInt32, static_cast<uint32_t>(HostileInteger(random)));
    case FieldDescriptor::CPPTYPE_UINT64:
      return put(&R::SetUInt64, &R::AddUInt64, HostileInteger(random));
    case FieldDescriptor::CPPTYPE_BOOL:
      return put(&R::SetBool, &R::AddBool, (*random)() % 2 == 0);
    case FieldDescriptor::CPPTYPE_ENUM:
      return put(&R::SetEnumValue, &R::AddEnumValue, static_cast<int>((*random)() % 100));
    default:
      return;
  }
}

// Changes one field of `message`, or of a message in it.
void Mutate(Message* message, Random* random) {
  const auto* type = message->GetDescriptor();
  if (type->field_count() == 0) return;
  const auto* reflection = message->GetReflection();
  const FieldDescriptor* field =
      type->field(static_cast<int>((*random)() % static_cast<uint64_t>(type->field_count())));
  if ((*random)() % 10 == 0) return reflection->ClearField(message, field);
  const uint64_t times = field->is_repeated() && (*random)() % 4 == 0 ? 1 + (*random)() % 2000 : 1;
  for (uint64_t i = 0; i < times; ++i) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      SetOrAdd(message, field, random);
    } else if (field->is_repeated()) {
      Mutate(reflection->AddMessage(message, field), random);
    } else {
      Mutate(reflection->MutableMessage(message, field), random);
    }
  }
}

v1::GenerateRequest GoodGenerate(Random* random) {
  v1::GenerateRequest request = testing::IdsRequest({1, 60, 61}, 1 + (*random)() % 8);
  if ((*random)() % 3 == 0) request.set_prompt("Once upon a time");
  if ((*random)() % 3 == 0) {
    auto* message = request.mutable_chat()->add_messages();
    message->set_role("user");
    message->set_content("Hello");
  }
  if ((*random)() % 2 == 0) request.mutable_sampling()->set_logprobs(3);
  return request;
}

v1::CompareRequest GoodCompare(Random* random) {
  v1::CompareRequest request;
  *request.mutable_base() = GoodGenerate(random);
  request.add_variants("fp16");
  request.add_variants("nf4");
  return request;
}

v1::ScoreRequest GoodScore(Random* random) {
  v1::ScoreRequest request;
  request.set_text("Once upon a time");
  if ((*random)() % 2 == 0) request.set_window(4);
  return request;
}

bool InContract(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kResourceExhausted:
      return true;
    default:
      return false;
  }
}

template <typename Request>
absl::StatusOr<Request> Reparsed(const Request& request) {
  Request parsed;
  if (absl::Status status = ParseMessage(request.SerializeAsString(), 1 << 20, &parsed);
      !status.ok()) {
    return status;
  }
  return parsed;
}

TEST(MutationTest, F18ConvertedOrRefusedWithinTheContract) {
  constexpr uint64_t kSeed = 18;
  SCOPED_TRACE(::testing::Message() << "seed " << kSeed);
  Random random(kSeed);
  const auto model = testing::FakeModel(true);
  int accepted = 0;
  const auto check = [&](const absl::Status& status, const Message& request) {
    EXPECT_TRUE(InContract(status.code())) << status << "\n" << request.ShortDebugString();
    accepted += status.ok();
  };
  constexpr int kRounds = testing::kSanitized ? 1000 : 10000;
  for (int i = 0; i < kRounds; ++i) {
    v1::GenerateRequest generate = GoodGenerate(&random);
    Mutate(&generate, &random);
    auto parsed = Reparsed(generate);
    auto spec = parsed.ok() ? ConvertGenerate(*parsed, *model, 64)
                            : absl::StatusOr<GenerateSpec>(parsed.status());
    if (spec.ok()) {
      // What was accepted can be completed, or is refused now that the tokens are known.
      auto prompt = PromptTokens(spec->input, *model, Tokenizer::Begin::kAsConfigured);
      const absl::Status completed =
          prompt.ok() ? CompleteSpec(&*spec, &*prompt, *model, 64) : prompt.status();
      check(completed, generate);
      EXPECT_LE(prompt->size(), static_cast<size_t>(spec->input.TokensBound()) + 64);
    } else {
      check(spec.status(), generate);
    }
    v1::CompareRequest compare = GoodCompare(&random);
    Mutate(&compare, &random);
    auto compared = Reparsed(compare);
    check(compared.ok() ? ConvertCompare(*compared, *model, 64).status() : compared.status(),
          compare);
    v1::ScoreRequest score = GoodScore(&random);
    Mutate(&score, &random);
    auto scored = Reparsed(score);
    check(scored.ok() ? ConvertScore(*scored, *model, 64).status() : scored.status(), score);
  }
  EXPECT_GT(accepted, kRounds / 2);  // the mutations are not all fatal
}

class MutationEndToEndTest : public testing::EndToEndTest {};

TEST_F(MutationEndToEndTest, F18OverTheWire) {
  constexpr uint64_t kSeed = 81;
  SCOPED_TRACE(::testing::Message() << "seed " << kSeed);
  Random random(kSeed);
  for (int i = 0; i < (testing::kSanitized ? 30 : 120); ++i) {
    std::pair<const char*, std::string> calls[3];
    v1::GenerateRequest generate = GoodGenerate(&random);
    Mutate(&generate, &random);
    calls[0] = {"/vernier.v1.Inference/GenerateStream", generate.SerializeAsString()};
    v1::CompareRequest compare = GoodCompare(&random);
    Mutate(&compare, &random);
    calls[1] = {"/vernier.v1.Evaluation/Compare", compare.SerializeAsString()};
    v1::ScoreRequest score = GoodScore(&random);
    Mutate(&score, &random);
    calls[2] = {"/vernier.v1.Inference/Score", score.SerializeAsString()};
    for (const auto& [method, bytes] : calls) {
      const testing::RawOutcome outcome = testing::RawCall(running_.channel, method, bytes);
      EXPECT_TRUE(InContract(static_cast<absl::StatusCode>(outcome.code)))
          << method << " " << outcome.code << " " << outcome.text;
    }
  }
}

}  // namespace
}  // namespace vernier
