// A copy of a model of tests/data whose config and tensors a test can change.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/engine/checkpoint/model_folder.h"
#include "tests/testing/tensor_file.h"
#include "tests/testing/test_data.h"

namespace vernier::testing {

struct EditedTensor {
  std::string dtype;
  std::vector<int64_t> shape;
  std::string bytes;

  // Value `index` of the bytes as they are.
  template <typename T>
  void Set(size_t index, T value) {
    std::memcpy(bytes.data() + index * sizeof(T), &value, sizeof(T));
  }
};

class EditedModel {
 public:
  // `model` has one model.safetensors.
  explicit EditedModel(const std::string& model)
      : config(ReadJson(TestDataPath(model + "/config.json"))) {
    const TensorFile file(TestDataPath(model + "/model.safetensors"));
    for (const std::string& name : file.NamesWith("")) {
      if (name == "__metadata__") continue;
      const std::vector<char> bytes = file.Read<char>(name);
      tensors[name] = {file.Dtype(name), file.Shape(name), {bytes.begin(), bytes.end()}};
    }
  }

  // Writes what was changed, and gives the folder's path. Tensors whose name has `second` in it go
  // to a second file.
  const std::string& Write(const std::string& second = "") const {
    folder_.Write("config.json", config.dump());
    if (second.empty()) {
      folder_.Write("model.safetensors", FileOf([](const std::string&) { return true; }));
      return folder_.path();
    }
    const auto in_second = [&](const std::string& name) { return name.find(second) != name.npos; };
    nlohmann::json index = {{"weight_map", nlohmann::json::object()}};
    for (const auto& [name, tensor] : tensors) {
      index["weight_map"][name] = in_second(name) ? "b.safetensors" : "a.safetensors";
    }
    folder_.Write("model.safetensors.index.json", index.dump());
    folder_.Write("a.safetensors", FileOf([&](const std::string& n) { return !in_second(n); }));
    folder_.Write("b.safetensors", FileOf(in_second));
    return folder_.path();
  }

  void Rename(const std::string& from, const std::string& to) {
    auto node = tensors.extract(from);
    node.key() = to;
    tensors.insert(std::move(node));
  }

  nlohmann::json config;
  std::map<std::string, EditedTensor> tensors;

 private:
  template <typename Chosen>
  std::string FileOf(const Chosen& chosen) const {
    nlohmann::json header = nlohmann::json::object();
    std::string data;
    for (const auto& [name, tensor] : tensors) {
      if (!chosen(name)) continue;
      header[name] = {{"dtype", tensor.dtype},
                      {"shape", tensor.shape},
                      {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
      data += tensor.bytes;
    }
    return SafetensorsBytes(header.dump(), 0) + data;
  }

  const ModelFolder folder_;
};

}  // namespace vernier::testing
