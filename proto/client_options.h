// Options that every client of the daemon has: where it listens, and the key of its API.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "proto/metadata_value.h"

namespace vernier {

// What is wrong with an address as HOST:PORT; nothing when empty.
inline std::string AddressFault(const std::string& text) {
  const size_t colon = text.rfind(':');
  int port = 0;
  const bool good = colon != std::string::npos && colon > 0 &&
                    absl::SimpleAtoi(text.substr(colon + 1), &port) && port >= 1 && port <= 65535;
  return good ? std::string() : absl::StrCat("'", text, "' is not HOST:PORT");
}

// An option that the environment may give, refused with what `fault` says of a value. Not by a
// check(): CLI11 passes over a value of the environment that fails one, in some versions.
template <class Fault>
CLI::Option* AddCheckedOption(CLI::App* app, const std::string& flag, const char* variable,
                              std::string* value, const std::string& text, Fault fault) {
  const auto set = [=](const std::string& given) {
    const std::string found(fault(given));
    if (!found.empty()) throw CLI::ValidationError(flag, found);
    *value = given;
  };
  return app->add_option_function<std::string>(flag, set, text)->envname(variable);
}

inline CLI::Option* AddServerOption(CLI::App* app, std::string* address) {
  return AddCheckedOption(app, "--server", "VERNIER_SERVER", address, "Where vernierd listens",
                          AddressFault)
      ->default_str(*address)
      ->type_name("HOST:PORT");
}
inline CLI::Option* AddApiKeyOption(CLI::App* app, std::string* key) {
  return AddCheckedOption(
      app, "--api-key", "VERNIER_API_KEY", key,
      "Key of the API; better given as VERNIER_API_KEY, which other users do not see",
      MetadataFault);
}

}  // namespace vernier
