// The part of the configuration that says who may connect, and call what.
#include <utility>

#include "absl/strings/match.h"
#include "server/config_reader.h"
#include "server/convert.h"

namespace vernier {
namespace {

bool IsSha256(const std::string& text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

void ReadServices(ConfigReader* reader, const YAML::Node& node, std::vector<std::string>* out) {
  if (!node.IsSequence()) return reader->Error(node, "services of a key must be a list");
  const std::vector<std::string>& known = ServiceNames();
  for (const YAML::Node& entry : node) {
    const std::string name = entry.IsScalar() ? entry.Scalar() : "";
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      reader->Error(entry, absl::StrCat("unknown service ", ConfigReader::Shown(name),
                                        "; known: ", absl::StrJoin(known, ", ")));
      continue;
    }
    out->push_back(name);
  }
}

}  // namespace

void ReadKeys(ConfigReader* reader, const YAML::Node& node, std::vector<AccessKey>* keys) {
  if (!node.IsSequence()) return reader->Error(node, "keys must be a list");
  // An empty list would open everything: whoever wrote it meant something else.
  if (node.size() == 0) return reader->Error(node, "keys is empty: leave it out for no keys");
  for (const YAML::Node& entry : node) {
    AccessKey key;
    reader->ReadMap(entry, "keys",
                    {{"name", reader->Text(&key.name)},
                     {"sha256", reader->Text(&key.sha256)},
                     {"tenant", reader->Text(&key.tenant)},
                     {"services", [&](const YAML::Node& services, const std::string&) {
                        ReadServices(reader, services, &key.services);
                      }}});
    if (!entry.IsMap()) continue;
    if (key.name.empty()) reader->Error(entry, "a key needs a name");
    if (!IsSha256(key.sha256)) {
      reader->Error(entry,
                    "a key's sha256 must be 64 lower-case hex digits: "
                    "printf %s KEY | sha256sum");
    }
    if (!CheckName("tenant", key.tenant).ok()) {
      reader->Error(entry, "a key's tenant must match [A-Za-z0-9._-]{0,64}");
    }
    for (const AccessKey& other : *keys) {
      if (other.name == key.name || other.sha256 == key.sha256) {
        reader->Error(entry, absl::StrCat("key ", ConfigReader::Shown(key.name),
                                          " has the name or the sha256 of another"));
      }
    }
    keys->push_back(std::move(key));
  }
}

ConfigReader::Keys TlsKeys(ConfigReader* reader, TlsFiles* files) {
  return {{"certificate", reader->Text(&files->certificate)},
          {"key", reader->Text(&files->key)},
          {"client_ca", reader->Text(&files->client_ca)}};
}

void CheckAccess(ParsedConfig* parsed) {
  const ServerConfig& config = parsed->config;
  const auto error = [&](const std::string& key, const std::string& message) {
    const auto line = parsed->lines.find(key);
    parsed->errors.push_back({line == parsed->lines.end() ? 0 : line->second, message});
  };
  for (const auto& [name, files] : {std::pair<std::string, const TlsFiles*>("tls", &config.tls),
                                    {"admin_tls", &config.admin_tls}}) {
    if (parsed->lines.count(name) == 0) continue;
    if (files->certificate.empty() || files->key.empty()) {
      error(name, absl::StrCat(name, " needs both certificate and key"));
    }
  }
  if (!config.admin.empty() && !IsLoopback(config.admin) && config.admin_tls.client_ca.empty()) {
    error("admin", "admin must be a loopback address, or have an admin_tls with client_ca");
  }
  if (config.admin.empty() && config.admin_tls.enabled()) {
    error("admin_tls", "admin_tls without admin");
  }
  if (config.reflection == Reflection::kOn && !config.keys.empty()) {
    error("reflection", "reflection is on, but it cannot ask for a key: leave it auto or off");
  }
}

bool IsLoopback(absl::string_view address) {
  return absl::StartsWith(address, "127.") || absl::StartsWith(address, "[::1]") ||
         absl::StartsWith(address, "localhost:");
}

}  // namespace vernier
