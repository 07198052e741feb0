// Renders a template in a test, at the time that the recordings assume.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "engine/text/jinja/from_json.h"
#include "engine/text/jinja/template.h"

namespace vernier::jinja::testing {

inline absl::StatusOr<MarkedText> Render(const std::string& source,
                                         const nlohmann::ordered_json& data,
                                         const Limits& limits = Limits(),
                                         Origin origin = Origin::kContent) {
  const auto parsed = Template::Parse(source, limits);
  if (!parsed.ok()) return parsed.status();
  auto variables = VariablesFromJson(data, origin);
  if (!variables.ok()) return variables.status();
  return (*parsed)->Render(*std::move(variables), absl::FromUnixSeconds(1752148800));
}

}  // namespace vernier::jinja::testing
