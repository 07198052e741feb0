#include "engine/text/jinja/template.h"

#include "absl/memory/memory.h"
#include "engine/text/jinja/evaluator.h"
#include "engine/text/jinja/meter.h"
#include "engine/text/jinja/parser.h"

namespace vernier::jinja {

absl::StatusOr<std::unique_ptr<Template>> Template::Parse(absl::string_view source,
                                                          const Limits& limits) {
  absl::StatusOr<Body> body = jinja::Parse(source, limits);
  if (!body.ok()) return body.status();
  return absl::WrapUnique(new Template(*std::move(body), limits));
}

absl::StatusOr<MarkedText> Template::Render(Variables variables, absl::Time now) const {
  Meter meter(limits_, now);
  MarkedText text = Evaluator(meter, std::move(variables)).Run(body_);
  if (!meter.ok()) return meter.status();
  return text;
}

}  // namespace vernier::jinja
