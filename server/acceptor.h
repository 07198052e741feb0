// Takes the connections of a listening port: so many in all, so many of one client, no more.
//
// gRPC has no such limit, and the accept loop of 1.51 ends for good when descriptors run out
// (CVE-2023-4785). So this one accepts, and gives the descriptors to gRPC, which closes them
// without a word: one that is closed, or is another socket by now, is noticed when room is needed
// or counted.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/base/mutex.h"
#include "server/counts_by_key.h"
#include "server/sockets.h"

namespace vernier {

struct ConnectionLimits {
  int total = 4096;
  int per_peer = 0;  // of one client address; 0: no limit
};

// As of one look.
struct ConnectionCounts {
  int64_t open = 0;
  int64_t refused_total = 0;  // closed at once since the start, for the limit of all
  int64_t refused_peer = 0;   // for that of one address
  int64_t cut = 0;            // ended by Cut
};

// Thread-safe but for Start, Close and HangUp, which one thread calls.
class Acceptor {
 public:
  // Listens; connections wait until Start. 0.0.0.0 and [::] are both of IPv4 and IPv6 where there
  // is such. UNAVAILABLE when the address is in use, is not ours or cannot be resolved.
  static absl::StatusOr<std::unique_ptr<Acceptor>> Listen(const std::string& address,
                                                          const ConnectionLimits& limits);
  ~Acceptor();  // Close

  // Calls `take` on a thread of its own with each connection's descriptor, which does not block and
  // is the callee's to close.
  void Start(std::function<void(int descriptor)> take);
  // Listens no more; what was taken lives on, what still waits is reset. Idempotent.
  void Close();
  // Closes our half of every connection that was taken, and waits for their clients to close
  // theirs, until `patience` has passed. After Close.
  void HangUp(absl::Duration patience);

  const std::string& address() const { return address_; }  // HOST:PORT as bound
  ConnectionCounts Counts();
  // Ends the connection of `peer`, as gRPC names it, if it is open.
  void Cut(const std::string& peer);
  // The connection that comes from `port` of this machine is taken beyond the limits: the daemon
  // looks whether it can be reached, which strangers must not prevent. The last such call counts.
  void Expect(int port) { expected_port_.store(port, std::memory_order_release); }

 private:
  using Time = std::chrono::steady_clock::time_point;
  struct Taken {
    int descriptor;
    ino_t inode;  // of the socket: descriptors are used again
    std::string peer;
    int port;  // of the peer
  };
  enum class Verdict { kTake, kTotal, kPeer };

  explicit Acceptor(const ConnectionLimits& limits) : limits_(limits) {}
  absl::Status Bind(const std::string& address);
  absl::Status BindOne(SocketAddress address);
  void Run();
  // Accepts what waits at `listener`; false: not now, descriptors or memory lack.
  bool AcceptFrom(int listener);
  bool IsOwn(int descriptor, const SocketAddress& peer) const;
  Verdict Admit(int descriptor, const SocketAddress& peer);
  Verdict Judge(const std::string& peer) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Refuse(Verdict verdict);
  // A descriptor of its own for the socket; none when it is closed.
  static Socket CopyOf(const Taken& taken);
  void DropClosed() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const ConnectionLimits limits_;
  std::string address_;
  std::vector<Socket> listeners_;  // the thread's once it runs
  Socket wake_;                    // an eventfd
  std::function<void(int)> take_;
  std::atomic<int> expected_port_{-1};
  std::atomic<int64_t> refused_total_{0}, refused_peer_{0}, cut_{0};
  int64_t refused_unsaid_ = 0;  // since the log's last line; the thread's
  Time said_{};
  Mutex mutex_;
  std::vector<Taken> taken_ ABSL_GUARDED_BY(mutex_);
  CountsByKey of_peer_ ABSL_GUARDED_BY(mutex_);
  Time look_again_ ABSL_GUARDED_BY(mutex_){};
  std::thread thread_;
};

}  // namespace vernier
