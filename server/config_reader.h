// Reads mappings of YAML by tables of keys, and collects every error with its line.
//
// Of config*.cc alone: yaml-cpp stays there.
#pragma once

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "server/config.h"

namespace vernier {

// `text` with what a terminal would act on replaced.
inline std::string Printable(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  return text;
}

// The values of one mapping, by key. A reader adds what is wrong to `errors`.
class ConfigReader {
 public:
  using Take = std::function<void(const YAML::Node& value, const std::string& path)>;
  using Keys = std::map<std::string, Take>;

  explicit ConfigReader(ParsedConfig* parsed) : parsed_(parsed) {}

  void Error(const YAML::Node& node, const std::string& message) {
    parsed_->errors.push_back({node.Mark().line + 1, message});
  }

  void ReadMap(const YAML::Node& node, const std::string& prefix, const Keys& keys) {
    if (!node.IsMap()) {
      return Error(node, absl::StrCat(prefix.empty() ? "the file" : prefix,
                                      " must be a mapping of keys to values"));
    }
    std::set<std::string> seen;
    for (const auto& entry : node) {
      const std::string name = entry.first.IsScalar() ? entry.first.Scalar() : "";
      const std::string path = prefix.empty() ? name : absl::StrCat(prefix, ".", name);
      const auto take = keys.find(name);
      if (take == keys.end()) {
        Error(entry.first,
              absl::StrCat("unknown key ", Shown(path), "; known here: ",
                           absl::StrJoin(keys, ", ", [](std::string* out, const auto& key) {
                             out->append(key.first);
                           })));
        continue;
      }
      if (!seen.insert(name).second) {
        Error(entry.first, absl::StrCat(Shown(path), " is given twice"));
        continue;
      }
      parsed_->lines.try_emplace(path, entry.first.Mark().line + 1);
      take->second(entry.second, path);
    }
  }

  // A value as messages may quote it.
  static std::string Shown(const std::string& text) {
    return text.empty() ? "(empty)" : Printable(text.substr(0, 64));
  }

  Take Text(std::string* out) {
    return [this, out](const YAML::Node& node, const std::string& path) {
      if (!node.IsScalar()) return Error(node, absl::StrCat(path, " must be a text"));
      *out = node.Scalar();
    };
  }

  Take Bool(bool* out) {
    return [this, out](const YAML::Node& node, const std::string& path) {
      const std::string text = node.IsScalar() ? node.Scalar() : "";
      if (text != "true" && text != "false") {
        return Error(node, absl::StrCat(path, " must be true or false"));
      }
      *out = text == "true";
    };
  }

  template <typename Integer>
  Take Whole(Integer* out, int64_t least, int64_t most) {
    return [this, out, least, most](const YAML::Node& node, const std::string& path) {
      int64_t value = 0;
      if (!node.IsScalar() || !absl::SimpleAtoi(node.Scalar(), &value)) {
        return Error(node, absl::StrCat(path, " must be a whole number"));
      }
      if (value < least || value > most) {
        return Error(node, absl::StrCat(path, " is ", value, ", must be ", least, " to ", most));
      }
      *out = static_cast<Integer>(value);
    };
  }

  Take Number(double* out, double least, double most) {
    return [this, out, least, most](const YAML::Node& node, const std::string& path) {
      double value = 0;
      if (!node.IsScalar() || !absl::SimpleAtod(node.Scalar(), &value)) {
        return Error(node, absl::StrCat(path, " must be a number"));
      }
      if (!(value >= least && value <= most)) {
        return Error(node, absl::StrCat(path, " is ", value, ", must be ", least, " to ", most));
      }
      *out = value;
    };
  }

  Take Seconds(absl::Duration* out, double least) {
    return [this, out, least](const YAML::Node& node, const std::string& path) {
      double value = 0;
      if (!node.IsScalar() || !absl::SimpleAtod(node.Scalar(), &value)) {
        return Error(node, absl::StrCat(path, " must be a number of seconds"));
      }
      if (!std::isfinite(value) || value < least || value > 1e6) {
        return Error(node,
                     absl::StrCat(path, " is ", value, ", must be ", least, " to 1e6 seconds"));
      }
      *out = absl::Seconds(value);
    };
  }

  Take OneOf(std::string* out, std::vector<std::string> values) {
    return [this, out, values](const YAML::Node& node, const std::string& path) {
      const std::string text = node.IsScalar() ? node.Scalar() : "";
      if (std::find(values.begin(), values.end(), text) == values.end()) {
        return Error(node, absl::StrCat(path, " must be one of ", absl::StrJoin(values, ", ")));
      }
      *out = text;
    };
  }

  Take Address(std::string* out) {
    return [this, out](const YAML::Node& node, const std::string& path) {
      if (!node.IsScalar() || !IsAddress(node.Scalar())) {
        return Error(node, absl::StrCat(path, " must be HOST:PORT"));
      }
      *out = node.Scalar();
    };
  }

 private:
  ParsedConfig* const parsed_;
};

// Reads the list `keys`.
void ReadKeys(ConfigReader* reader, const YAML::Node& node, std::vector<AccessKey>* keys);
// The keys of `experiments`.
ConfigReader::Keys ExperimentsKeys(ConfigReader* reader, ServerConfig* config);
// The keys of `tls` and `admin_tls`.
ConfigReader::Keys TlsKeys(ConfigReader* reader, TlsFiles* files);

}  // namespace vernier
