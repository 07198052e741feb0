// Reads the tensors of a small safetensors file of test data, without the checkpoint reader.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace vernier::testing {

class TensorFile {
 public:
  explicit TensorFile(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
    uint64_t size = 0;
    if (bytes_.size() < sizeof(size)) return;
    std::memcpy(&size, bytes_.data(), sizeof(size));
    if (size > bytes_.size() - sizeof(size)) return;
    header_ = nlohmann::json::parse(bytes_.begin() + sizeof(size),
                                    bytes_.begin() + sizeof(size) + size, nullptr, false);
    data_ = sizeof(size) + size;
  }

  // The names of tensors that end in `suffix`, without it.
  std::vector<std::string> NamesWith(const std::string& suffix) const {
    std::vector<std::string> names;
    for (const auto& [name, entry] : header_.items()) {
      if (name.size() > suffix.size() && name.ends_with(suffix)) {
        names.push_back(name.substr(0, name.size() - suffix.size()));
      }
    }
    return names;
  }

  std::vector<int64_t> Shape(const std::string& name) const {
    return header_.at(name).at("shape").get<std::vector<int64_t>>();
  }

  std::string Dtype(const std::string& name) const { return header_.at(name).at("dtype"); }

  template <typename T>
  std::vector<T> Read(const std::string& name) const {
    const auto range = header_.at(name).at("data_offsets").get<std::vector<size_t>>();
    std::vector<T> values((range[1] - range[0]) / sizeof(T));
    std::memcpy(values.data(), bytes_.data() + data_ + range[0], values.size() * sizeof(T));
    return values;
  }

 private:
  std::vector<char> bytes_;
  nlohmann::json header_ = nlohmann::json::object();
  size_t data_ = 0;
};

}  // namespace vernier::testing
