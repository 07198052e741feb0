// vernierd as a process: its one line, its exit codes, its drain.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "engine/checkpoint/checkpoint.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/server/daemon_process.h"
#include "tests/server/end_to_end.h"
#include "tests/server/metrics_page.h"

namespace vernier {
namespace {

using testing::AddressIn;
using testing::ChildProcess;
using testing::Command;
using testing::GrpcAddress;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using testing::Serving;

// A file that is gone with the test.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& text)
      : path_(::testing::TempDir() + "vernier-" + std::to_string(getpid()) + ".yaml") {
    std::ofstream(path_) << text;
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  const std::string& path() const { return path_; }

 private:
  const std::string path_;
};

// A pipe that nobody reads, and its path for others.
std::string FullPipe(int (&ends)[2]) {
  EXPECT_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
  const std::string page(4096, 'x');
  while (write(ends[1], page.data(), page.size()) > 0) {
  }
  return absl::StrCat("/proc/", getpid(), "/fd/", ends[1]);
}

std::string DescriptorOf(const ChildProcess& daemon, int descriptor) {
  return std::filesystem::read_symlink(absl::StrCat("/proc/", daemon.pid(), "/fd/", descriptor))
      .string();
}

class DaemonTest : public ::testing::Test {
 protected:
  struct Ended {
    int code;
    std::string output, errors;
  };
  static Ended Run(const std::vector<std::string>& arguments) {
    ChildProcess child(arguments);
    const int code = child.Wait();
    return {code, child.RestOfOutput(), child.errors()};
  }
  static void ExpectLogLines(const std::string& text) {
    for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
      EXPECT_TRUE(nlohmann::json::accept(line.begin(), line.end())) << line;
    }
  }
  const std::string model_ = testing::TestDataPath("stories260K/hf");
};

TEST_F(DaemonTest, OneReadyLineAndATermThatEndsItWithZero) {
  ChildProcess daemon(Serving(model_, {"--name", "stories", "--health", "127.0.0.1:0"}));
  EXPECT_THAT(daemon.ReadLine(),
              MatchesRegex("ready grpc=127.0.0.1:[0-9]+ http=127.0.0.1:[0-9]+ "
                           "health=127.0.0.1:[0-9]+ model=stories variants=fp16,nf4"));
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.Wait(), 0);
  EXPECT_EQ(daemon.RestOfOutput(), "");
  ExpectLogLines(daemon.errors());
}

TEST_F(DaemonTest, F17HostileRequestsLeaveNothingButLinesOfOurLog) {
  ChildProcess daemon(Serving(model_));
  const auto channel = testing::Connect(GrpcAddress(daemon.ReadLine()));
  constexpr char kMethod[] = "/vernier.v1.Inference/Generate";
  v1::GenerateRequest request = testing::IdsRequest({1}, 2);
  request.set_request_id("\x1b[31m\nforged line");
  request.set_variant("\x1b[31m\n{\"level\":\"error\"}");
  EXPECT_EQ(testing::RawCall(channel, kMethod, request.SerializeAsString()).code, 5);
  EXPECT_EQ(testing::RawCall(channel, kMethod, "\x0a\x02\xc3\x28").code, 3);
  EXPECT_EQ(testing::RawCall(channel, kMethod, std::string(4096, 'x'),
                             [](grpc::ClientContext* context) {
                               context->set_compression_algorithm(GRPC_COMPRESS_GZIP);
                             })
                .code,
            12);
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.Wait(), 0);
  EXPECT_THAT(daemon.errors(), Not(HasSubstr("forged")));
  EXPECT_EQ(daemon.errors().find('\x1b'), std::string::npos);
  ExpectLogLines(daemon.errors());
}

TEST_F(DaemonTest, F46WhatTheManifestContradictsEndsWith65) {
  const std::string folder = ::testing::TempDir() + "vernier-manifest-" + std::to_string(getpid());
  std::filesystem::copy(model_, folder, std::filesystem::copy_options::recursive);
  const auto checkpoint = Checkpoint::Open(folder, ManifestUse::kIgnore);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  absl::StatusOr<Manifest> manifest = (*checkpoint)->MakeManifest();
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  const auto write = [&] {
    std::ofstream(ManifestPathOfFolder(folder)) << RenderManifest(*manifest);
  };
  write();
  ChildProcess daemon(Serving(folder));
  const auto channel = testing::Connect(GrpcAddress(daemon.ReadLine()));
  grpc::ClientContext context;
  v1::ListModelsResponse models;
  ASSERT_TRUE(v1::Models::NewStub(channel)->ListModels(&context, {}, &models).ok());
  ASSERT_EQ(models.models_size(), 1);
  EXPECT_EQ(models.models(0).integrity(), "manifest");
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.Wait(), 0);

  // Tokens that neither variant draws: none is left.
  manifest->golden = GoldenTokens{{1, 403, 407}, {5, 5, 5, 5}, 0.5};
  manifest->golden_formats[FormatId::kNf4] = *manifest->golden;
  write();
  const Ended wrong = Run(Serving(folder));
  EXPECT_EQ(wrong.code, 65);
  EXPECT_EQ(wrong.output, "");
  EXPECT_THAT(wrong.errors, HasSubstr("golden tokens: variant fp16 draws ["));
  EXPECT_THAT(wrong.errors, HasSubstr("golden tokens: variant nf4 draws ["));
  EXPECT_THAT(wrong.errors, HasSubstr("the manifest says [5, 5, 5, 5] with margins of at least"));

  manifest->tensors[3].xxh3 ^= 1;
  write();
  const Ended ended = Run(Serving(folder));
  EXPECT_EQ(ended.code, 65);
  EXPECT_EQ(ended.output, "");
  EXPECT_THAT(ended.errors, HasSubstr("model.safetensors: tensor " + manifest->tensors[3].name +
                                      " has the XXH3 "));
  std::filesystem::remove_all(folder);
}

TEST_F(DaemonTest, F68TermLetsARunningStreamFinishAndRefusesNewCalls) {
  ChildProcess daemon(Serving(model_));
  testing::RunningDaemon client;
  client.channel = testing::Connect(GrpcAddress(daemon.ReadLine()));
  client.inference = v1::Inference::NewStub(client.channel);
  v1::GenerateRequest request = testing::IdsRequest({1, 403}, 500);
  request.mutable_sampling()->set_ignore_eos(true);
  request.mutable_sampling()->set_n(4);
  grpc::ClientContext context;
  const auto reader = client.inference->GenerateStream(&context, request);
  v1::GenerateStreamResponse message;
  ASSERT_TRUE(reader->Read(&message));  // it runs
  daemon.Signal(SIGTERM);
  // From some moment on new calls are refused with a hint, on the connection that is there.
  int code = 0;
  while (code == 0) {
    const testing::RawOutcome outcome =
        testing::RawCall(client.channel, "/vernier.v1.Inference/Generate",
                         testing::IdsRequest({1}, 1).SerializeAsString());
    code = outcome.code;
    if (!outcome.pushback.empty()) {
      EXPECT_GE(std::stoi(outcome.pushback), 50);
    }
  }
  EXPECT_EQ(code, 14);
  std::set<uint32_t> finished;
  while (reader->Read(&message)) {
    if (!message.has_finish()) continue;
    EXPECT_EQ(message.finish().finish_reason(), v1::LENGTH);
    EXPECT_EQ(message.finish().usage().completion_tokens(), 500u);
    finished.insert(message.finish().index());
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(finished.size(), 4u);
  EXPECT_EQ(daemon.Wait(), 0);
}

TEST_F(DaemonTest, F68WatchersHearThatReadinessIsOffAndDoNotHoldUpTheEnd) {
  ChildProcess daemon(Serving(model_));
  const auto stub =
      grpc::health::v1::Health::NewStub(testing::Connect(GrpcAddress(daemon.ReadLine())));
  grpc::ClientContext context;
  grpc::health::v1::HealthCheckRequest request;
  grpc::health::v1::HealthCheckResponse response;
  request.set_service("readiness");
  const auto watch = stub->Watch(&context, request);
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::SERVING);
  daemon.Signal(SIGTERM);
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::NOT_SERVING);
  EXPECT_FALSE(watch->Read(&response));
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(daemon.Wait(), 0);
}

TEST_F(DaemonTest, F68SecondTermEndsTheDrainAtOnce) {
  ChildProcess daemon(Serving(model_));
  testing::RunningDaemon client;
  client.channel = testing::Connect(GrpcAddress(daemon.ReadLine()));
  client.inference = v1::Inference::NewStub(client.channel);
  v1::GenerateRequest request = testing::IdsRequest({1, 403}, 500);
  request.mutable_sampling()->set_ignore_eos(true);
  request.mutable_sampling()->set_n(64);
  grpc::ClientContext context;
  const auto reader = client.inference->GenerateStream(&context, request);
  v1::GenerateStreamResponse message;
  ASSERT_TRUE(reader->Read(&message));
  daemon.Signal(SIGTERM);
  daemon.Signal(SIGINT);
  EXPECT_EQ(testing::ReadAll(reader.get(), /*started=*/true).status.error_code(),
            grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(daemon.Wait(), 0);
}

TEST_F(DaemonTest, F51BadConfigurationIsExit64WithEveryLine) {
  const TemporaryFile config(
      "model: {path: m.gguf}\n"
      "variants:\n"
      "  - {name: a, formats: [[\"*\", fp16]]}\n"
      "  - {name: a, formats: [[\"*\", fp17]]}\n"
      "colour: red\n"
      "threads: -1\n");
  for (const bool check : {false, true}) {
    std::vector<std::string> arguments = {"--config", config.path()};
    if (check) arguments.push_back("--check-config");
    const Ended ended = Run(Command(arguments));
    EXPECT_EQ(ended.code, 64);
    for (const char* line : {":4: ", ":5: ", ":6: "}) {
      EXPECT_THAT(ended.errors, HasSubstr(config.path() + line));
    }
  }
  EXPECT_EQ(Run(Command({"--nonsense"})).code, 64);
  EXPECT_EQ(Run(Command({"--model", "m"})).code, 64);
}

TEST_F(DaemonTest, CheckConfigOfAGoodOneTouchesNothing) {
  const Ended ended = Run(Serving("/nonexistent/model", {"--check-config"}));
  EXPECT_EQ(ended.code, 0) << ended.errors;
  EXPECT_THAT(ended.output, HasSubstr("good"));
}

TEST_F(DaemonTest, F51FlagsOverrideKeysOfTheFile) {
  const TemporaryFile config(
      "model: {path: " + model_ +
      ", name: from-file}\nvariants: [{name: fp16}]\n"
      "listen: 127.0.0.1:0\nhttp: 127.0.0.1:0\nengine: {kv_bytes: 4000000}\n");
  ChildProcess daemon(Command({"--config", config.path(), "--variants", "int8"}));
  EXPECT_THAT(daemon.ReadLine(), HasSubstr("model=from-file variants=int8"));
  daemon.Signal(SIGINT);
  EXPECT_EQ(daemon.Wait(), 0);
}

TEST_F(DaemonTest, F51PortInUseIsExit69) {
  ChildProcess first(Serving(model_));
  const std::string address = GrpcAddress(first.ReadLine());
  EXPECT_EQ(Run(Command({"--model", model_, "--variants", "fp16", "--listen", address, "--http",
                         "127.0.0.1:0"}))
                .code,
            69);
  EXPECT_EQ(Run(Command({"--model", model_, "--variants", "fp16", "--listen", "127.0.0.1:0",
                         "--http", address}))
                .code,
            69);
}

TEST_F(DaemonTest, WeightsThatAreNoneAreExit65) {
  const Ended ended = Run(Serving("/nonexistent/model"));
  EXPECT_EQ(ended.code, 65);
  EXPECT_THAT(ended.errors, HasSubstr("/nonexistent/model"));
  EXPECT_THAT(ended.output, Not(HasSubstr("ready")));
  // The tokenizer's file is no model either.
  EXPECT_EQ(Run(Serving(testing::TestDataPath("stories260K/tok512.bin"))).code, 65);
}

TEST_F(DaemonTest, OptionsThatTheModelDoesNotFitAreExit64) {
  EXPECT_EQ(Run(Serving(model_, {"--max-context", "513"})).code, 64);
}

TEST_F(DaemonTest, F35MemoryThatIsNotThereIsExit71) {
  if (testing::kSanitized) GTEST_SKIP() << "a sanitizer needs the address space itself";
  std::vector<std::string> arguments =
      Command({"--model", model_, "--variants", "fp16", "--listen", "127.0.0.1:0", "--http",
               "127.0.0.1:0", "--threads", "1", "--kv-bytes", "8000000000"});
  arguments.insert(arguments.begin(), {"/bin/sh", "-c", "ulimit -v 4000000; exec \"$0\" \"$@\""});
  const Ended ended = Run(arguments);
  EXPECT_EQ(ended.code, 71);
  EXPECT_THAT(ended.errors, HasSubstr("bytes"));
}

TEST_F(DaemonTest, F23TooFewDescriptorsAreExit71) {
  std::vector<std::string> arguments = Serving(model_);
  arguments.insert(arguments.begin(), {"/bin/sh", "-c", "ulimit -n 4096; exec \"$0\" \"$@\""});
  const Ended ended = Run(arguments);
  EXPECT_EQ(ended.code, 71);
  EXPECT_THAT(ended.errors, HasSubstr("8192"));
  // As many connections as may come must not take the last one either.
  const TemporaryFile config("max_connections: 10000\n");
  arguments = Serving(model_, {"--config", config.path()});
  arguments.insert(arguments.begin(), {"/bin/sh", "-c", "ulimit -n 10000; exec \"$0\" \"$@\""});
  const Ended many = Run(arguments);
  EXPECT_EQ(many.code, 71);
  EXPECT_THAT(many.errors, HasSubstr("at least 11536 open files (ulimit -Hn) with "
                                     "max_connections 10000"));
}

TEST_F(DaemonTest, F53ALogThatTakesNothingDoesNotHoldUpServing) {
  int full[2];
  const std::string blocked = FullPipe(full);
  for (const std::string& where : {std::string("/dev/full"), std::string("&-"), blocked}) {
    std::vector<std::string> arguments = Serving(model_);
    arguments.insert(arguments.begin(),
                     {"/bin/sh", "-c", absl::StrCat("exec \"$0\" \"$@\" 2>", where)});
    ChildProcess daemon(arguments);
    const std::string ready = daemon.ReadLine();
    const auto channel = testing::Connect(GrpcAddress(ready));
    EXPECT_EQ(testing::RawCall(channel, "/vernier.v1.Inference/Generate",
                               testing::IdsRequest({1}, 2).SerializeAsString())
                  .code,
              0);
    const auto scraped = testing::MetricsPage::Scrape(AddressIn(ready, "http="));
    EXPECT_GE(scraped.Sum("vernier_log_dropped_total"), 1);
    EXPECT_EQ(scraped.Sum("vernier_grpc_connections"), 1);
    // What is opened later must not become standard error.
    EXPECT_EQ(DescriptorOf(daemon, STDERR_FILENO) == "/dev/null", where == "&-");
    daemon.Signal(SIGTERM);
    EXPECT_EQ(daemon.Wait(), 0);
  }
  close(full[0]);
  close(full[1]);
}

TEST_F(DaemonTest, F53StandardOutputThatTakesNothingHoldsUpNeitherServingNorTheEnd) {
  int full[2];
  const std::string blocked = FullPipe(full);
  for (const std::string& where : {std::string("/dev/full"), std::string("&-"), blocked}) {
    SCOPED_TRACE(where);
    std::vector<std::string> arguments = Serving(model_);
    arguments.insert(arguments.begin(),
                     {"/bin/sh", "-c", absl::StrCat("exec \"$0\" \"$@\" 2>&1 1>", where)});
    ChildProcess daemon(arguments);
    std::string line;
    do {
      line = daemon.ReadLine();  // of its log
    } while (!line.empty() && !absl::StrContains(line, "ready grpc="));
    EXPECT_THAT(line, HasSubstr("standard output does not take \\\"ready grpc="));
    EXPECT_EQ(DescriptorOf(daemon, STDOUT_FILENO) == "/dev/null", where == "&-");
    daemon.Signal(SIGTERM);
    EXPECT_EQ(daemon.Wait(), 0);
  }
  close(full[0]);
  close(full[1]);
}

TEST_F(DaemonTest, F62KeysCloseReflectionAndAdminDrainsLikeATerm) {
  // printf %s open-sesame | sha256sum
  const TemporaryFile config(
      "model: {path: " + model_ +
      "}\nvariants: [{name: fp16}]\n"
      "listen: 127.0.0.1:0\nhttp: 127.0.0.1:0\nadmin: 127.0.0.1:0\nengine: {kv_bytes: 4000000}\n"
      "keys: [{name: all, services: [Control, Models], sha256: "
      "d7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7}]\n");
  ChildProcess daemon(Command({"--config", config.path()}));
  const std::string ready = daemon.ReadLine();
  const auto call = [&](const char* listener, const char* method, const char* key) {
    return testing::RawCall(
               testing::Connect(AddressIn(ready, listener)), method, "",
               [&](grpc::ClientContext* context) { context->AddMetadata("authorization", key); })
        .code;
  };
  constexpr char kKey[] = "Bearer open-sesame";
  EXPECT_EQ(call("grpc=", "/vernier.v1.Models/ListModels", "Bearer x"), 16);
  EXPECT_EQ(call("grpc=", "/vernier.v1.Models/ListModels", kKey), 0);
  EXPECT_EQ(call("grpc=", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", kKey),
            12);
  EXPECT_EQ(call("admin=", "/vernier.v1.Control/Drain", "Bearer x"), 16);
  EXPECT_EQ(call("admin=", "/vernier.v1.Control/Drain", kKey), 0);
  EXPECT_EQ(daemon.Wait(), 0);
}

TEST_F(DaemonTest, HealthcheckEndsWithZeroWhenReady) {
  ChildProcess daemon(Serving(model_, {"--health", "127.0.0.1:0"}));
  const std::string address = AddressIn(daemon.ReadLine(), "health=");
  EXPECT_EQ(Run(Command({"--healthcheck", address})).code, 0);
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.Wait(), 0);
  EXPECT_EQ(Run(Command({"--healthcheck", address})).code, 1);
}

TEST_F(DaemonTest, CertificatesThatAreNoneAreExit64) {
  const TemporaryFile config(
      "model: {path: " + model_ +
      "}\nvariants: [{name: fp16}]\n"
      "tls: {certificate: /nonexistent/tls.crt, key: /nonexistent/tls.key}\n");
  const Ended ended =
      Run(Command({"--config", config.path(), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"}));
  EXPECT_EQ(ended.code, 64);
  EXPECT_THAT(ended.errors, HasSubstr("/nonexistent/tls.crt"));
}

TEST_F(DaemonTest, F44AFatalXidDrainsAndIsExit70) {
  TemporaryFile config(absl::StrCat("nvml: ", FAKE_NVML_LIBRARY, "\n"));
  setenv("FAKE_NVML", "ecc 13 79 79", 1);
  ChildProcess child(Serving(model_, {"--config", config.path()}));
  unsetenv("FAKE_NVML");
  child.ReadLine();
  EXPECT_EQ(child.Wait(), 70);
  const std::string log = child.errors();
  EXPECT_THAT(log, HasSubstr("reports an ECC error"));
  EXPECT_THAT(log, HasSubstr("reports Xid 13\""));
  EXPECT_THAT(log, HasSubstr("reports Xid 79: draining"));
  EXPECT_THAT(log, HasSubstr("\"stopped\""));
  ExpectLogLines(log);
}

TEST_F(DaemonTest, F44OtherXidsAreCountedAndServingGoesOn) {
  TemporaryFile config(absl::StrCat("nvml: ", FAKE_NVML_LIBRARY, "\n"));
  setenv("FAKE_NVML", "ecc 13 31", 1);
  ChildProcess child(Serving(model_, {"--config", config.path()}));
  unsetenv("FAKE_NVML");
  const std::string ready = child.ReadLine();
  auto page = testing::MetricsPage::Scrape(AddressIn(ready, "http="));
  while (page.Sum("vernier_gpu_errors_total") < 3) {
    page = testing::MetricsPage::Scrape(AddressIn(ready, "http="));
  }
  EXPECT_EQ(page.Sum("vernier_gpu_errors_total", {"kind=\"xid\""}), 2);
  child.Signal(SIGTERM);
  EXPECT_EQ(child.Wait(), 0);
}

TEST_F(DaemonTest, F61NoChildAndNoSocketButTheConfiguredOnes) {
  ChildProcess daemon(Serving(model_, {"--health", "127.0.0.1:0", "--admin", "127.0.0.1:0"}));
  ASSERT_THAT(daemon.ReadLine(), HasSubstr("admin="));
  const std::string proc = "/proc/" + std::to_string(daemon.pid());
  std::string children;
  std::getline(std::ifstream(proc + "/task/" + std::to_string(daemon.pid()) + "/children"),
               children);
  EXPECT_EQ(children, "");
  std::set<std::string> own;  // inodes of its sockets
  for (const auto& entry : std::filesystem::directory_iterator(proc + "/fd")) {
    const std::string target = std::filesystem::read_symlink(entry.path()).string();
    if (absl::StartsWith(target, "socket:[")) own.insert(target.substr(8, target.size() - 9));
  }
  int listening = 0;
  for (const char* table : {"/net/tcp", "/net/tcp6", "/net/udp", "/net/udp6"}) {
    std::ifstream file(proc + table);
    for (std::string line; std::getline(file, line);) {
      const std::vector<std::string> fields = absl::StrSplit(line, ' ', absl::SkipEmpty());
      if (fields.size() < 10 || own.count(fields[9]) == 0) continue;
      EXPECT_EQ(fields[3], "0A") << line;  // listens
      ++listening;
    }
  }
  EXPECT_EQ(listening, 4);
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.Wait(), 0);
}

TEST_F(DaemonTest, F69AfterAKillTheNextOneServesTheSamePort) {
  std::string address;
  {
    ChildProcess daemon(Serving(model_));
    address = GrpcAddress(daemon.ReadLine());
    daemon.Signal(SIGKILL);
    EXPECT_EQ(daemon.Wait(), 128 + SIGKILL);
  }
  ChildProcess next(Command({"--model", model_, "--variants", "fp16", "--listen", address, "--http",
                             "127.0.0.1:0", "--threads", "1", "--kv-bytes", "4000000"}));
  EXPECT_EQ(GrpcAddress(next.ReadLine()), address);
  next.Signal(SIGTERM);
  EXPECT_EQ(next.Wait(), 0);
}

TEST_F(DaemonTest, F52EmptyEnvironmentSuffices) {
  ChildProcess daemon([&] {
    std::vector<std::string> arguments = Serving(model_);
    arguments.insert(arguments.begin(), {"/usr/bin/env", "-i"});
    return arguments;
  }());
  EXPECT_THAT(daemon.ReadLine(), HasSubstr("ready "));
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.Wait(), 0);
}

}  // namespace
}  // namespace vernier
