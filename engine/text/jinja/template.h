// A chat template as checkpoints carry it: Jinja, parsed once, rendered within limits.
//
// The part of Jinja2 that templates use, as transformers sets it up (trim_blocks, lstrip_blocks,
// loop controls, immutable sandbox, its own tojson). No file is read, no code runs, no value has
// other attributes than those in the tables of methods. Immutable after Parse: any thread may
// render.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/text/jinja/ast.h"
#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/marked_text.h"
#include "engine/text/jinja/value.h"

namespace vernier::jinja {

using Variables = std::vector<std::pair<std::string, Value>>;

class Template {
 public:
  // INVALID_ARGUMENT with the line for what is no template; UNIMPLEMENTED with the line and the
  // name of a tag that is not supported.
  static absl::StatusOr<std::unique_ptr<Template>> Parse(absl::string_view source,
                                                         const Limits& limits = Limits());

  // INVALID_ARGUMENT with the line for what the template raises or cannot do with these variables;
  // RESOURCE_EXHAUSTED with the line and the limit. `now` is what strftime_now says, in UTC.
  absl::StatusOr<MarkedText> Render(Variables variables, absl::Time now) const;

 private:
  Template(Body body, const Limits& limits) : body_(std::move(body)), limits_(limits) {}

  const Body body_;
  const Limits limits_;
};

}  // namespace vernier::jinja
