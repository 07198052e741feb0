#include "cli/interrupts.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <utility>

#include "kernels/base/check.h"

namespace vernier::cli {
namespace {

constexpr char kInterrupt = 'i';
constexpr char kEnd = 'e';

std::atomic<int> write_end{-1};
struct sigaction previous;

void OnSignal(int) {
  const int saved = errno;
  const ssize_t written = write(write_end.load(), &kInterrupt, 1);
  static_cast<void>(written);  // a full pipe holds enough of them
  errno = saved;
}

}  // namespace

Interrupts::Interrupts() {
  VERNIER_CHECK(pipe2(pipe_, O_CLOEXEC) == 0);
  write_end.store(pipe_[1]);
  thread_ = std::thread([this] { Run(); });
  struct sigaction action {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;  // reading a line goes on
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &previous);
}

Interrupts::~Interrupts() {
  sigaction(SIGINT, &previous, nullptr);
  VERNIER_CHECK(write(pipe_[1], &kEnd, 1) == 1);
  thread_.join();
  close(pipe_[0]);
  close(pipe_[1]);
}

void Interrupts::SetCall(std::shared_ptr<grpc::ClientContext> call) {
  MutexLock lock(&mutex_);
  call_ = std::move(call);
}

void Interrupts::Run() {
  for (;;) {
    char what = 0;
    const ssize_t count = read(pipe_[0], &what, 1);
    if (count < 0 && errno == EINTR) continue;
    if (count != 1 || what == kEnd) return;
    std::shared_ptr<grpc::ClientContext> call;
    {
      MutexLock lock(&mutex_);
      call = call_;
    }
    if (call != nullptr) call->TryCancel();
  }
}

}  // namespace vernier::cli
