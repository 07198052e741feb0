// Hostile templates and data end in a status with the line and the limit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/engine/text/jinja/rendering.h"

namespace vernier::jinja {
namespace {

using ::testing::HasSubstr;

std::string Repeated(const std::string& unit, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += unit;
  return out;
}

absl::Status Refusal(const std::string& source, const nlohmann::ordered_json& data = {{"a", 1}}) {
  Limits limits;
  limits.steps = 100'000;
  limits.work_bytes = 4 << 20;
  limits.output_bytes = 1 << 20;
  return testing::Render(source, data, limits).status();
}

TEST(JinjaLimitsTest, RendersThatUseTooMuchNameTheLimit) {
  const std::pair<std::string, std::string> kCases[] = {
      {"\n{% set r = range(99) %}{% for a in r %}{% for b in r %}{% for c in r %}{% endfor %}"
       "{% endfor %}{% endfor %}",
       "steps"},
      {"{% set ns = namespace(x='aaaa') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}"
       "{% endfor %}",
       "bytes"},
      {"{{ 'a' * 999999999999 }}", "too many bytes"},
      {"{{ [1] * 999999999999 }}", "too many items"},
      {"{{ [[1] * 9999] * 9999 }}", "bytes"},
      {"{% for i in range(9999) %}{{ 'a' * 200 }}{% endfor %}", "writes more than"},
      {"{{ range(100001) }}", "range of more than"},
      {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "levels deep"},
      {"{% macro m(x) %}{{ m(x) ~ m(x) }}{% endmacro %}{{ m(1) }}", "levels deep"},
      {"{% set ns = namespace(x=[]) %}{% for i in range(99) %}{% set ns.x = [ns.x] %}{% endfor %}",
       "levels deep"},
      {"{% set ns = namespace() %}{% set ns.x = ns %}", "namespace"},
      {"{% set ns = namespace() %}{% set ns.x = [ns] %}", "namespace"},
      {"{{ 'a'.center(99999999) }}", "pads"},
      {"{{ 'a'|indent(99999999) }}", "indents"},
      {"{{ ('a,' * 200000).split(',') }}", "bytes"},
      {"{{ ('a' * 200000)|list }}", "characters"},
      {"{{ ['a' * 300000] }}", "works on more than"},
      {"{{ ('a' * 300000)|tojson }}", "works on more than"},
      {"{{ ('\\n' * 70000)|tojson }}", "works on more than"},
      {"{{ 'a' * 100000|replace('', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb') }}",
       ""},
      {"{% set s = 'a' * 900000 %}{% for i in range(99) %}{% if s == s %}{% endif %}{% endfor %}",
       "bytes"},
  };
  for (const auto& [source, limit] : kCases) {
    const absl::Status status = Refusal(source);
    ASSERT_FALSE(status.ok()) << source;
    EXPECT_THAT(std::string(status.message()), HasSubstr("template line ")) << source;
    EXPECT_THAT(std::string(status.message()), HasSubstr(limit)) << source;
  }
}

TEST(JinjaLimitsTest, SourcesInsideEachOtherAreRefused) {
  for (const std::string& source :
       {"{{ " + Repeated("(", 5000) + "1" + Repeated(")", 5000) + " }}",
        "{{ " + Repeated("[", 5000) + Repeated("]", 5000) + " }}",
        "{{ " + Repeated("not ", 5000) + "1 }}", "{{ " + Repeated("-", 5000) + "1 }}",
        "{{ 1" + Repeated(" + 1", 5000) + " }}", "{{ a" + Repeated(".b", 5000) + " }}",
        "{{ a" + Repeated("|upper", 5000) + " }}", "{{ a" + Repeated("()", 5000) + " }}",
        "{{ a" + Repeated("[0]", 5000) + " }}", "{{ 1" + Repeated(" if 1 else 1", 5000) + " }}",
        "{{ 1" + Repeated(" if 1", 5000) + " }}", "{{ 1" + Repeated(" ** 1", 5000) + " }}",
        Repeated("{% if 1 %}", 5000) + Repeated("{% endif %}", 5000),
        Repeated("{% for a in b %}", 5000), "{% for " + Repeated("(", 5000) + "a in b %}",
        "{% set x | " + Repeated("upper | ", 5000) + "upper %}{% endset %}"}) {
    const absl::Status status = Template::Parse(source).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << source.substr(0, 40);
  }
  EXPECT_THAT(std::string(Template::Parse(std::string(300'000, 'a')).status().message()),
              HasSubstr("300000 bytes, limit 262144"));
}

// Every beginning of a template, and every one with a byte gone, is a template or a refusal.
TEST(JinjaLimitsTest, BrokenTemplatesAreRefusedOrRendered) {
  const std::string source =
      "{%- macro m(a, b='x') -%}{{ a ~ b|upper }}{%- endmacro %}{# c #}{% raw %}{{ }}{% endraw %}"
      "{% for k, v in d.items() if k is not none %}{{ m(k, b=v[1:-1:1]) }}{% else %}-{% endfor %}"
      "{% set ns = namespace(x={'a': [1, 2.5e3]}) %}{% set ns.y %}{{ ns.x.a[0] // 2 }}{% endset %}"
      "{% call(z) m(1) %}{{ z }}{% endcall %}{{ 'a\\n' if x is defined else \"b\" }}";
  const nlohmann::ordered_json data = {{"d", {{"k", "value"}, {"l", "é"}}}};
  for (size_t i = 0; i <= source.size(); ++i) {
    testing::Render(source.substr(0, i), data).status().IgnoreError();
    testing::Render(source.substr(0, i) + source.substr(std::min(i + 1, source.size())), data)
        .status()
        .IgnoreError();
  }
}

TEST(JinjaLimitsTest, NothingOfPythonIsReached) {
  for (const char* source :
       {"{{ ''.__class__.__mro__ }}", "{{ [].append(1) }}", "{{ {}.update({}) }}", "{{ self.x }}",
        "{{ cycler.__init__.__globals__ }}", "{{ m.__globals__.x }}"}) {
    EXPECT_EQ(Refusal(source).code(), absl::StatusCode::kInvalidArgument) << source;
  }
}

TEST(JinjaLimitsTest, RaisedTextIsEscapedAndBounded) {
  const absl::Status status =
      Refusal("{{ raise_exception(a) }}", {{"a", "\x1b[31m" + std::string(5000, 'x')}});
  EXPECT_THAT(std::string(status.message()), HasSubstr("raised: \\x1b[31mxxx"));
  EXPECT_LT(status.message().size(), 700u);
}

TEST(JinjaLimitsTest, JsonTooDeepOrTooLargeIsRefused) {
  const auto parse = [](const std::string& text) { return nlohmann::ordered_json::parse(text); };
  EXPECT_EQ(
      FromJson(parse(Repeated("[", 65) + Repeated("]", 65)), Origin::kContent).status().code(),
      absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(FromJson(parse(Repeated("[", 64) + Repeated("]", 64)), Origin::kContent).ok());
  EXPECT_FALSE(FromJson(parse("18446744073709551615"), Origin::kContent).ok());
  EXPECT_FALSE(VariablesFromJson(parse("[]"), Origin::kContent).ok());
}

}  // namespace
}  // namespace vernier::jinja
