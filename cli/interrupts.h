// Ctrl-C ends the reply in flight instead of the program.
#pragma once

#include <grpcpp/client_context.h>

#include <memory>
#include <thread>

#include "kernels/base/mutex.h"

namespace vernier::cli {

// While one lives, SIGINT cancels the current call, and does nothing without one. At most one a
// process. SetCall may be called from any thread.
class Interrupts {
 public:
  Interrupts();
  ~Interrupts();  // SIGINT is as it was
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  // Null: none.
  void SetCall(std::shared_ptr<grpc::ClientContext> call);

 private:
  // A handler may do little: it writes a byte into a pipe, and this thread cancels.
  void Run();

  int pipe_[2] = {-1, -1};
  Mutex mutex_;
  std::shared_ptr<grpc::ClientContext> call_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace vernier::cli
