// vernierd: reads its configuration, binds, loads, serves until a signal, drains, ends.
#include <fcntl.h>
#include <google/protobuf/stubs/logging.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/random_folder.h"
#include "engine/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/mutex.h"
#include "kernels/base/thread_role.h"
#include "kernels/make_backend.h"
#include "server/config_flags.h"
#include "server/daemon.h"
#include "server/grpc_server.h"

namespace vernier {
namespace {

constexpr int64_t kLeastDescriptors = 8192;
constexpr int64_t kOtherDescriptors = 1024;  // files, the metrics port, the backend's own
constexpr int kExitUnhealthy = 1;            // what a container's HEALTHCHECK wants
constexpr absl::Duration kHealthcheckTimeout = absl::Seconds(3);

// Counts SIGTERM and SIGINT, and wakes whoever waits. Signals are blocked in every thread and taken
// by this one's alone.
class Signals {
 public:
  // Call before any other thread starts.
  Signals() {
    sigemptyset(&set_);
    for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) sigaddset(&set_, signal);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    signal(SIGPIPE, SIG_IGN);
    thread_ = std::thread([this] { Run(); });
  }
  ~Signals() {
    pthread_kill(thread_.native_handle(), SIGUSR1);
    thread_.join();
  }
  // As if SIGTERM came. Any thread.
  void Raise() {
    MutexLock lock(&mutex_);
    count_.fetch_add(1, std::memory_order_release);
    wake_.NotifyAll();
  }
  int count() const { return count_.load(std::memory_order_acquire); }
  void WaitForFirst() {
    MutexLock lock(&mutex_);
    while (count() == 0) wake_.Wait(&mutex_);
  }

 private:
  void Run() {
    int signal = 0;
    while (sigwait(&set_, &signal) == 0 && signal != SIGUSR1) Raise();
  }

  sigset_t set_;
  std::atomic<int> count_{0};
  Mutex mutex_;  // between count_ and the wait for it
  CondVar wake_;
  std::thread thread_;
};

// So that no number of connections takes the last descriptor.
int64_t NeededDescriptors(const ServerConfig& config) {
  return std::max(kLeastDescriptors,
                  config.max_connections + 2 * kSideConnections + kOtherDescriptors);
}

bool RaiseDescriptorLimit(int64_t needed) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return false;
  limit.rlim_cur = limit.rlim_max;
  return setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= static_cast<rlim_t>(needed);
}

// Standard descriptors that were closed become ones that take nothing: else the next file or socket
// that is opened would be written to as standard error.
void HoldStandardDescriptors() {
  int opened = 0;
  while (opened >= 0 && opened <= STDERR_FILENO) opened = open("/dev/null", O_RDONLY);
  if (opened > STDERR_FILENO) close(opened);
}

// These never wait for a reader, who may be gone.
int Fail(int code, absl::string_view message) {
  WriteWithoutWaiting(STDERR_FILENO, absl::StrCat("vernierd: ", message, "\n"));
  return code;
}
void Announce(const std::string& line) {
  if (WriteWithoutWaiting(STDOUT_FILENO, line + "\n")) return;
  Log(LogLevel::kWarning, absl::StrCat("standard output does not take \"", line, "\""));
}

// The engine is gone and its requests have been told so: leave, whatever else still hangs.
void LeaveForLostEngine(const absl::Status& status) {
  Log(LogLevel::kError, absl::StrCat("the engine is lost: ", status.message()));
  std::_Exit(kExitEngine);
}

// What a port that others can reach lacks.
void WarnOfOpenPorts(const ServerConfig& config) {
  if (config.behind_proxy || IsLoopback(config.listen)) return;
  if (GrpcIsOld()) {
    Log(LogLevel::kWarning,
        absl::StrCat("gRPC ", GrpcVersion(),
                     " has known weaknesses against hostile clients: run "
                     "behind a proxy and say so with --behind-proxy, or keep the port private"));
  }
  if (!config.tls.enabled() || (config.keys.empty() && config.tls.client_ca.empty())) {
    Log(LogLevel::kWarning, absl::StrCat("listen is ", config.listen, " without ",
                                         config.tls.enabled() ? "keys or client_ca" : "tls",
                                         ": whoever reaches it may use it"));
  }
}

int Serve(const ServerConfig& config, Signals* signals) {
  auto daemon = Daemon::Bind(config, &SteadyClock(), [signals] { signals->Raise(); });
  if (!daemon.ok()) {
    return Fail(absl::IsUnavailable(daemon.status()) ? kExitAddress : kExitUsage,
                daemon.status().message());
  }
  BackendOptions options;
  options.kind = config.backend;
  options.isa = config.isa;
  options.threads = config.threads;
  options.cuda_module = config.cuda_module;
  options.deterministic = config.deterministic;
  options.fast_prefill = config.fast_prefill;
  options.pin_threads = config.pin_threads;
  auto backend = MakeBackend(options);
  if (!backend.ok()) return Fail(kExitUsage, backend.status().message());
  Log(LogLevel::kInfo, absl::StrCat("loading ", config.model_path, " on ", (*backend)->Describe()));
  if (!config.admin.empty()) {
    options.threads = 1;  // the others serve meanwhile
    auto packer = MakeBackend(options);
    if (!packer.ok()) return Fail(kExitUsage, packer.status().message());
    (*daemon)->SetPacker(*std::move(packer));
  }
  const auto stopping = [signals] { return signals->count() > 0; };
  if (absl::Status status = (*daemon)->Load(*std::move(backend), stopping, LeaveForLostEngine);
      !status.ok()) {
    if (absl::IsCancelled(status)) {
      Log(LogLevel::kInfo, "stopped while loading");
      return kExitOk;
    }
    return Fail(ExitCodeOfLoad(status), status.message());
  }
  Announce((*daemon)->ReadyLine());
  signals->WaitForFirst();
  Log(LogLevel::kInfo, "draining");
  (*daemon)->Drain([signals] { return signals->count() > 1; });
  (*daemon)->Stop();
  Log(LogLevel::kInfo, "stopped");
  return (*daemon)->exit_code();
}

int SaveRandomWeights(const CommandLine& command, const Signals& signals) {
  RandomFolderOptions options;
  options.stopping = [&signals] { return signals.count() > 0; };
  const auto saved = WriteRandomFolder(command.random_weights, command.save_folder, options);
  if (saved.ok()) {
    Announce(absl::StrCat("saved ", command.random_weights, ", ", saved->bytes, " bytes in ",
                          saved->files, saved->files == 1 ? " file" : " files", ", to ",
                          command.save_folder));
    return kExitOk;
  }
  const bool usage =
      absl::IsInvalidArgument(saved.status()) || absl::IsAlreadyExists(saved.status());
  return Fail(usage ? kExitUsage : kExitResource, saved.status().message());
}

int Main(int argc, char** argv) {
  HoldStandardDescriptors();
  SetThreadRole(ThreadRole::kServes, nullptr);
  Signals signals;
  // It would write a line of its own for each malformed request.
  google::protobuf::SetLogHandler(nullptr);
  LogForGrpc();
  CommandLine command = ParseCommandLine(argc, argv);
  if (command.exit_code >= 0) {
    std::fputs(command.message.c_str(), command.exit_code == 0 ? stdout : stderr);
    return command.exit_code;
  }
  if (!command.healthcheck.empty()) {
    const absl::Status ready = AskReadiness(command.healthcheck, kHealthcheckTimeout);
    return ready.ok() ? kExitOk : Fail(kExitUnhealthy, ready.message());
  }
  if (!command.save_folder.empty()) return SaveRandomWeights(command, signals);
  if (!command.parsed.errors.empty()) {
    std::fputs(FormatErrors(command.config_file, command.parsed.errors).c_str(), stderr);
    return kExitUsage;
  }
  if (command.check_config) {
    std::printf("%s is good\n",
                command.config_file.empty() ? "the command line" : command.config_file.c_str());
    return kExitOk;
  }
  const int64_t descriptors = NeededDescriptors(command.parsed.config);
  if (!RaiseDescriptorLimit(descriptors)) {
    return Fail(kExitResource, absl::StrCat("needs a limit of at least ", descriptors,
                                            " open files (ulimit -Hn) with max_connections ",
                                            command.parsed.config.max_connections));
  }
  WarnOfOpenPorts(command.parsed.config);
  return Serve(command.parsed.config, &signals);
}

}  // namespace
}  // namespace vernier

int main(int argc, char** argv) {
  try {
    return vernier::Main(argc, argv);
  } catch (const std::exception& error) {  // std::bad_alloc, std::system_error of a thread
    std::fprintf(stderr, "vernierd: %s\n", error.what());
    return vernier::kExitResource;
  }
}
