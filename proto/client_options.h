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

inline void AddServerOption(CLI::App* app, std::string* address) {
  app->add_option("--server", *address, "Where vernierd listens")
      ->envname("VERNIER_SERVER")
      ->capture_default_str()
      ->type_name("HOST:PORT");
}
inline CLI::Option* AddApiKeyOption(CLI::App* app, std::string* key) {
  return app
      ->add_option("--api-key", *key,
                   "Key of the API; better given as VERNIER_API_KEY, which other users do not see")
      ->envname("VERNIER_API_KEY");
}

// What is wrong with what these two options of `app` were given; nothing when empty, or without
// them. After the parse, not as their check(): some versions of CLI11 pass over a value of the
// environment that fails one.
inline std::string ClientOptionsFault(const CLI::App& app) {
  const auto fault_of = [&](const char* name, const auto& fault_in) -> std::string {
    const CLI::Option* const option = app.get_option_no_throw(name);
    if (option == nullptr || option->count() == 0) return "";
    const std::string fault(fault_in(option->as<std::string>()));
    return fault.empty() ? "" : absl::StrCat(name, ": ", fault);
  };
  const std::string fault = fault_of("--server", AddressFault);
  return fault.empty() ? fault_of("--api-key", MetadataFault) : fault;
}

}  // namespace vernier
