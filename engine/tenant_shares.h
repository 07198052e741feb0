// Who was served how much: the virtual token counters that make tenants' shares fair.
//
// Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024): the next request is of the
// tenant that got the fewest tokens; one that had nothing to ask for saves up little, so its
// counter is lifted to the lowest of those who wait or run. Work-conserving, and two tenants that
// always want more differ by a bounded number of tokens. Ours keeps a credit: with nothing saved
// up, one that asks now and then would wait as long as its own work takes, each time.
//
// Pure values, used by the scheduler alone, on the device thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace vernier {

class TenantShares {
 public:
  // What one may be behind when it comes back: about a long prompt.
  static constexpr int64_t kCredit = 2048;

  struct Tenant {
    int64_t served = 0;       // tokens: of prompts as they are computed, drawn ones twice
    int64_t outstanding = 0;  // tokens of prompts that run, not computed yet
    int64_t sequences = 0;    // that wait or run
    int64_t running = 0;      // that hold blocks
  };

  // One sequence more of a tenant. The reference holds until its last sequence is removed.
  Tenant* Add(const std::string& name);
  // The sequence has ended.
  void Remove(const std::string& name);

  size_t size() const { return tenants_.size(); }

 private:
  int64_t Level() const;

  std::map<std::string, Tenant> tenants_;
  int64_t last_level_ = 0;  // when the last one left
  int64_t idle_ = 0;
};

}  // namespace vernier
