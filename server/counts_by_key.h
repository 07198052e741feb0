// How many there are of each key.
#pragma once

#include <map>
#include <string>

namespace vernier {

// Not thread-safe: its owner's lock guards it.
class CountsByKey {
 public:
  int Of(const std::string& key) const {
    const auto found = counts_.find(key);
    return found == counts_.end() ? 0 : found->second;
  }
  // Returns the new count.
  int Add(const std::string& key) { return ++counts_[key]; }
  // After Add, once.
  void Remove(const std::string& key) {
    const auto found = counts_.find(key);
    if (--found->second == 0) counts_.erase(found);
  }

 private:
  std::map<std::string, int> counts_;  // without zeros
};

}  // namespace vernier
