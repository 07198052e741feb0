#include "engine/checkpoint/gguf_metadata.h"

#include <nlohmann/json.hpp>

namespace vernier {
namespace {

constexpr size_t kStringBytes = 256;
constexpr size_t kElements = 8;

struct ToJson {
  template <typename T>
  nlohmann::json operator()(const T& scalar) const {
    return scalar;
  }
  nlohmann::json operator()(const std::string& text) const { return text.substr(0, kStringBytes); }
  template <typename T>
  nlohmann::json operator()(const std::vector<T>& array) const {
    nlohmann::json cut = nlohmann::json::array();
    for (size_t i = 0; i < array.size() && i < kElements; ++i) cut.push_back((*this)(array[i]));
    return cut;
  }
};

}  // namespace

nlohmann::json MetadataJson(const GgufHeader& header) {
  nlohmann::json object = nlohmann::json::object();
  for (const auto& [key, value] : header.metadata) object[key] = std::visit(ToJson{}, value);
  return object;
}

}  // namespace vernier
