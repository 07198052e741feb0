// The moment a server ends, seen by clients that call without a pause.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <thread>
#include <vector>

#include "tests/server/daemon_process.h"
#include "tests/server/end_to_end.h"
#include "tests/server/grpc_fixture.h"

namespace vernier {
namespace {

using testing::GrpcTest;
using ::testing::HasSubstr;
using testing::kGenerate;
using ::testing::Not;

class StopTest : public GrpcTest {};

TEST_F(StopTest, R4WhoCallsAtTheMomentOfTheEndIsToldWhatARetryHelps) {
  constexpr int kClients = 8;
  for (int round = 0; round < 20; ++round) {
    GrpcOptions options;
    options.listen = "127.0.0.1:0";
    auto server = GrpcServer::Start(options, &state_);
    ASSERT_TRUE(server.ok()) << server.status();
    std::atomic<int> calls{0};
    std::vector<std::thread> clients;
    for (int i = 0; i < kClients; ++i) {
      clients.emplace_back([&] {
        const auto channel = testing::Connect((*server)->address());
        int code = 0;
        for (; code == 0; calls.fetch_add(1)) {
          code = testing::RawCall(channel, kGenerate, GoodRequest()).code;
        }
        // CANCELLED, say, is retried by nobody.
        EXPECT_EQ(code, 14);
      });
    }
    while (calls.load() < 10 * kClients) {
    }
    (*server)->Shutdown(absl::Milliseconds(250));
    for (std::thread& client : clients) client.join();
  }
}

TEST(EndOfDaemonTest, F68TermWhileLoadingEndsWithZeroAndWithoutReady) {
  // The log goes where the ready line would: the first line says that it loads.
  std::vector<std::string> arguments = testing::Command(
      {"--random-weights", "smollm2-135m", "--variants", "fp16", "--backend", "cpu", "--listen",
       "127.0.0.1:0", "--http", "127.0.0.1:0", "--threads", "1"});
  arguments.insert(arguments.begin(), {"/bin/sh", "-c", "exec \"$0\" \"$@\" 2>&1"});
  testing::ChildProcess daemon(arguments);
  EXPECT_THAT(daemon.ReadLine(), HasSubstr("loading"));
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.Wait(), 0);
  const std::string rest = daemon.RestOfOutput();
  EXPECT_THAT(rest, HasSubstr("stopped while loading"));
  EXPECT_THAT(rest, Not(HasSubstr("ready grpc=")));
}

TEST(EndOfDaemonTest, SavingOverAFolderOrAnUnknownModelIsExit64) {
  const std::string folder = testing::TestDataPath("stories260K/hf");
  testing::ChildProcess over(
      testing::Command({"--random-weights", "smollm2-135m", "--save", folder}));
  EXPECT_EQ(over.Wait(), 64);
  EXPECT_THAT(over.errors(), HasSubstr("not overwritten"));
  testing::ChildProcess unknown(
      testing::Command({"--random-weights", "llama-9", "--save", folder + "-new"}));
  EXPECT_EQ(unknown.Wait(), 64);
}

TEST(EndOfDaemonTest, F69KilledUnderLoadItsClientsAreToldUnavailableAndTheNextOneServes) {
  const std::string model = testing::TestDataPath("stories260K/hf");
  testing::ChildProcess daemon(testing::Serving(model));
  const std::string address = testing::GrpcAddress(daemon.ReadLine());
  v1::GenerateRequest request = testing::IdsRequest({1, 403}, 500);
  request.mutable_sampling()->set_ignore_eos(true);
  request.mutable_sampling()->set_n(16);
  std::vector<std::unique_ptr<v1::Inference::Stub>> stubs;
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateStreamResponse>>> readers;
  v1::GenerateStreamResponse message;
  for (int i = 0; i < 4; ++i) {
    stubs.push_back(v1::Inference::NewStub(testing::Connect(address)));
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    readers.push_back(stubs.back()->GenerateStream(contexts.back().get(), request));
    ASSERT_TRUE(readers.back()->Read(&message));  // it runs
  }
  daemon.Signal(SIGKILL);
  EXPECT_EQ(daemon.Wait(), 128 + SIGKILL);
  for (const auto& reader : readers) {
    EXPECT_EQ(testing::ReadAll(reader.get(), /*started=*/true).status.error_code(),
              grpc::StatusCode::UNAVAILABLE);
  }
  testing::ChildProcess next(
      testing::Command({"--model", model, "--variants", "fp16", "--listen", address, "--http",
                        "127.0.0.1:0", "--threads", "1", "--kv-bytes", "4000000"}));
  EXPECT_EQ(testing::GrpcAddress(next.ReadLine()), address);
  EXPECT_EQ(testing::RawCall(testing::Connect(address), kGenerate,
                             testing::IdsRequest({1}, 2).SerializeAsString())
                .code,
            0);
  next.Signal(SIGTERM);
  EXPECT_EQ(next.Wait(), 0);
}

}  // namespace
}  // namespace vernier
