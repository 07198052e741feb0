// A program of ours as a child: what it says, and how it ends.
#pragma once

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

extern char** environ;

namespace vernier::testing {

// Started by the constructor; killed by the destructor when it still runs. Used by one thread.
class ChildProcess {
 public:
  // `arguments[0]` is the program's path.
  explicit ChildProcess(std::vector<std::string> arguments) {
    int out[2], err[2];
    if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) return;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, err[1], STDERR_FILENO);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    if (posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ) != 0) pid_ = -1;
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    close(err[1]);
    out_ = out[0];
    // Nobody waits on it while the program speaks.
    err_reader_ = std::thread([this, fd = err[0]] {
      ReadInto(fd, &errors_);
      close(fd);
    });
  }
  ~ChildProcess() {
    if (pid_ > 0) {
      Signal(SIGKILL);
      Wait();
    }
    if (err_reader_.joinable()) err_reader_.join();
    close(out_);
  }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // The next line of standard output without its end; "" when there is none.
  std::string ReadLine() {
    std::string line;
    char c = 0;
    while (read(out_, &c, 1) == 1 && c != '\n') line += c;
    return line;
  }
  pid_t pid() const { return pid_; }
  void Signal(int signal) const {
    if (pid_ > 0) kill(pid_, signal);  // -1 is every process there is
  }
  // The exit code; 128 and the signal that killed it. -1: it never started.
  int Wait() {
    if (pid_ <= 0) return -1;
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    if (err_reader_.joinable()) err_reader_.join();
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  // After Wait: all of standard error, and what is left of standard output.
  const std::string& errors() const { return errors_; }
  std::string RestOfOutput() {
    std::string text;
    ReadInto(out_, &text);
    return text;
  }

 private:
  static void ReadInto(int fd, std::string* text) {
    char buffer[4096];
    for (ssize_t count = 0; (count = read(fd, buffer, sizeof(buffer))) > 0;) {
      text->append(buffer, static_cast<size_t>(count));
    }
  }

  pid_t pid_ = -1;
  int out_ = -1;
  std::string errors_;
  std::thread err_reader_;
};

}  // namespace vernier::testing
