// Finds and reads the files that tests compare with.
//
// Committed data is always there (VERNIER_TEST_DATA); models are where somebody fetched them.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/base/sanitizer.h"

namespace vernier::testing {

inline constexpr bool kSanitized = VERNIER_SANITIZED != 0;

inline std::string PathFrom(const char* variable, const std::string& relative) {
  const char* root = std::getenv(variable);
  return std::string(root == nullptr ? "." : root) + "/" + relative;
}

inline std::string TestDataPath(const std::string& relative) {
  return PathFrom("VERNIER_TEST_DATA", relative);
}

// Larger sets that are not committed; they may be missing.
inline std::string SharedDataPath(const std::string& relative) {
  return PathFrom("VERNIER_SHARED_DATA", relative);
}

// Empty when the model was not fetched.
inline std::string ModelPath(const std::string& file) {
  const std::string path = PathFrom("VERNIER_MODELS", file);
  return std::filesystem::exists(path) ? path : "";
}

// A discarded value when the file is missing or malformed.
inline nlohmann::json ReadJson(const std::string& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
}

inline std::vector<nlohmann::json> ReadJsonLines(const std::string& path) {
  std::vector<nlohmann::json> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    lines.push_back(nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false));
  }
  return lines;
}

}  // namespace vernier::testing
