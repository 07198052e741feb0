// The CPU backend's instruction sets by name: for whoever offers the choice, without its headers.
// The server, which does not know kernels, says them again (server/config.cc, config_flags.cc).
#pragma once

#include <iterator>
#include <string>
#include <vector>

namespace vernier {

// In the order of CpuIsa (kernels/cpu/cpu_features.h), ascending by what they need.
inline constexpr const char* kCpuIsas[] = {"portable", "avx2", "avx512", "avx512_bf16", "amx"};

// What BackendOptions::isa may be.
inline std::vector<std::string> CpuIsaChoices() {
  std::vector<std::string> choices = {"auto"};
  choices.insert(choices.end(), std::begin(kCpuIsas), std::end(kCpuIsas));
  return choices;
}

// The same in a sentence: "auto, portable, .. or amx".
inline std::string ListCpuIsaChoices() {
  const std::vector<std::string> choices = CpuIsaChoices();
  std::string list = choices.front();
  for (size_t i = 1; i < choices.size(); ++i) {
    list += (i + 1 < choices.size() ? ", " : " or ") + choices[i];
  }
  return list;
}

}  // namespace vernier
