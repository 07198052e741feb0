// What came from outside of the template is known in the rendered text, byte by byte.
#include <gtest/gtest.h>

#include "tests/engine/text/jinja/rendering.h"

namespace vernier::jinja {
namespace {

// The text with what is content in brackets.
std::string Marked(const std::string& source, const nlohmann::ordered_json& data) {
  const auto text = testing::Render(source, data);
  if (!text.ok()) return std::string(text.status().message());
  std::string out;
  size_t at = 0;
  for (const MarkedText::Run& run : text->content()) {
    out += text->bytes().substr(at, run.begin - at) + "«" +
           text->bytes().substr(run.begin, run.end - run.begin) + "»";
    at = run.end;
  }
  return out + text->bytes().substr(at);
}

TEST(MarkedTextTest, RepeatedTextTakesNoMoreMemoryThanItsBytes) {
  MarkedText text("ab");
  text.Append("c", Origin::kContent);
  for (const size_t times : {0, 1, 2, 3, 1000, 1023}) {
    const MarkedText repeated = text.Repeated(times);
    EXPECT_EQ(repeated.size(), 3 * times);
    EXPECT_LE(repeated.bytes().capacity(), 3 * times + 15);
    EXPECT_EQ(repeated.content().size(), times);
    EXPECT_LE(repeated.content().capacity(), times);
  }
}

TEST(JinjaMarksTest, OperationsKeepMarks) {
  const nlohmann::ordered_json data = {{"c", " aBé-b "}, {"l", {"x", "y"}}, {"d", {{"k", "v\n"}}}};
  const std::pair<const char*, const char*> kCases[] = {
      {"<{{ c }}>", "<« aBé-b »>"},
      {"{{ '<' ~ c.strip() + '>' }}", "<«aBé-b»>"},
      {"{{ c|trim|upper }}", "«ABÉ-B»"},
      {"{{ c[2:4] ~ c[::-1] }}", "«Bé b-éBa »"},
      {"{{ c.split('-')|join('+') }}", "« aBé»+«b »"},
      {"{{ c|replace('B', '<b>') }}", "« a»<b>«é-b »"},
      {"{{ 'a-b'|replace('-', c) }}", "a« aBé-b »b"},
      {"{{ l|join(', ') }}", "«x», «y»"},
      {"{{ l }}", "['«x»', '«y»']"},
      {"{{ d|tojson }}", "{\"«k»\": \"«v\\n»\"}"},
      {"{{ d }}", "{'«k»': '«v\\n»'}"},
      {"{{ c|first ~ (l|last) }}{{ l|map('upper')|list|first }}", "« yX»"},
      {"{{ c * 2 }}", "« aBé-b  aBé-b »"},
      {"{{ ('<' ~ l[0] ~ '>') * 3 }}", "<«x»><«x»><«x»>"},
      {"{{ c * 0 ~ (l[0] * 5) }}", "«xxxxx»"},
      {"{% set s %}[{{ l[0] }}]{% endset %}{{ s|title }}", "[«X»]"},
      {"{% macro m(a) %}({{ a }}){% endmacro %}{{ m(l[1]) }}", "(«y»)"},
      {"{% filter upper %}a{{ l[0] }}{% endfilter %}", "A«X»"},
      {"{% for ch in c.strip() %}{{ ch }}.{% endfor %}", "«a».«B».«é».«-».«b»."},
      {"{{ ('<%s>'|format(l[0])) ~ (c|indent) ~ ('&<' ~ l[0])|e }}", "<«x»>« aBé-b »&amp;&lt;«x»"},
      {"{{ c.partition('-')[2] ~ c.center(9, '*') }}", "«b »*« aBé-b »*"},
      {"{{ c|truncate(3, true, '…', 0) }}", "« a»…"},
      {"{% set ns = namespace(t='') %}{% for x in l %}{% set ns.t = ns.t + x %}{% endfor %}"
       "{{ ns.t }}",
       "«xy»"},
  };
  for (const auto& [source, marked] : kCases) EXPECT_EQ(Marked(source, data), marked) << source;
}

TEST(JinjaMarksTest, ContentIsNeverReadAsATemplate) {
  const nlohmann::ordered_json data = {{"c", "{{ 1 + 1 }}{% raw %}{# #}"}};
  EXPECT_EQ(Marked("{{ c }}", data), "«{{ 1 + 1 }}{% raw %}{# #}»");
}

}  // namespace
}  // namespace vernier::jinja
