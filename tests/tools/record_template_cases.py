#!/usr/bin/env python3
"""Records what Jinja2 makes of small templates, set up as transformers sets it up.

Recorded with Jinja2 3.1.6 (the output names its version).
Usage: record_template_cases.py > tests/data/chat_templates/cases.json

A case is a template, and the text or that there is an error. All have the same data.
"""
import datetime
import json
import sys

import jinja2
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


NOW = datetime.datetime(2025, 7, 10, 12)
ENVIRONMENT = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"])
ENVIRONMENT.filters["tojson"] = tojson
ENVIRONMENT.globals["raise_exception"] = raise_exception
ENVIRONMENT.globals["strftime_now"] = NOW.strftime

DATA = {'messages': [{'role': 'system', 'content': "Be <b>brief</b> & 'nice'."},
              {'role': 'user', 'content': '  Héllo wörld\n'},
              {'role': 'assistant', 'content': 'a,b,,c'}],
 'n': 3,
 'f': 2.5,
 's': 'The quick  brown fox',
 'e': '',
 'none': None,
 't': True,
 'l': [3, 1, 2],
 'd': {'b': 1, 'a': [1, 2], 'C': None},
 'people': [{'name': 'Bob', 'age': 30, 'x': {'y': 1}},
            {'name': 'alice', 'age': 25, 'x': {'y': 0}},
            {'name': 'Carl', 'age': 25}],
 'tool': {'name': 'f',
          'parameters': {'type': 'object',
                         'properties': {'x': {'type': 'integer'}},
                         'required': []}},
 'u': '€é中🙂\u2028"\\\t'}

# One a line.
LINES = r'''
a {{ 1 }} b
{{ undefined_name }}|{{ undefined_name is defined }}|{{ undefined_name is undefined }}
{{ undefined_name.x }}
{{ d.missing }}|{{ d.missing is defined }}|{{ d['missing'] }}
{{ d.missing.more }}
{{ undefined_name + 'a' }}
{{ undefined_name ~ 'a' }}
{{ undefined_name == none }}{{ undefined_name is none }}{{ undefined_name|length }}{{ undefined_name|list }}
{{ undefined_name|tojson }}
{{ undefined_name() }}
{{ undefined_name < 1 }}
{{ -undefined_name }}
{{ 'a' in undefined_name }}
{% for x in undefined_name %}{{ x }}{% else %}none{% endfor %}
{{ none.x }}|{{ none }}|{{ true }}|{{ false }}|{{ True }}|{{ None }}
{{ 1.0 }} {{ 1e20 }} {{ 0.1 }} {{ 1e-5 }} {{ 123456789.123 }} {{ 1e16 }} {{ 1e15 }} {{ 2.5e-7 }}
{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }}
{{ 1 / 0 }}
{{ 'a' * 3 }}{{ [1] * 2 }}{{ 'a' + 'b' }}{{ 'a' ~ 1 ~ none ~ true }}
{{ 'a' + 1 }}
{{ 1 + 'a' }}
{{ [1] + [2, 3] }}{{ (1,) + (2,) }}{{ (1, 2) }}{{ () }}{{ [] }}{{ {} }}
{{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }} {{ 1 == 1.0 }} {{ 1 == true }} {{ 'a' < 'b' }} {{ [1,2] < [1,3] }} {{ 'a' == 1 }}
{{ 1 < 'a' }}
{{ 2 in l }} {{ 5 not in l }} {{ 'a' in d }} {{ 'quick' in s }} {{ not 1 in l }} {{ 'x' in 'abc' }}
{{ 1 in 'abc' }}
{{ 1 if t else 2 }}{{ 1 if not t }}{{ 'a' if e else 'b' if none else 'c' }}
{{ t and 'x' or 'y' }}{{ e or none or 5 }}{{ 0 and 1 }}{{ not e }}
{{ l[0] }}{{ l[-1] }}{{ l[1:] }}{{ l[:-1] }}{{ l[::-1] }}{{ l[::2] }}{{ l[5:] }}{{ l[-100:100] }}{{ l[2:0:-1] }}
{{ s[4:9] }}|{{ s[::-1] }}|{{ s[0] }}|{{ s[-1] }}|{{ u[1:3] }}|{{ u[-3] }}|{{ s[100] }}|{{ s[::3] }}
{{ messages[1].content[2:7] }}|{{ messages[-1]['role'] }}|{{ messages[9] }}|{{ messages[9] is defined }}
{{ d.b }}{{ d['a'][1] }}{{ d.a.1 }}{{ d.get('b') }}{{ d.get('z') }}{{ d.get('z', 4) }}
{{ d.items() | list }}{{ d.keys() | list }}{{ d.values() | list }}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
{% for k, v in d | dictsort %}{{ k }}={{ v }};{% endfor %}{{ d|dictsort(true) }}{{ {'x': 2, 'y': 1}|dictsort(by='value') }}{{ {'x': 2, 'y': 1}|dictsort(reverse=true) }}
{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }}{{ loop.depth }};{% endfor %}
{% for x in l if x > 1 %}{{ x }}{{ loop.index }}{% endfor %}
{% for x in [] %}a{% else %}b{% endfor %}{% for x in l if x > 10 %}a{% else %}b{% endfor %}
{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for a in l %}{% for b in l %}{{ loop.depth0 }}{{ a * b }} {% endfor %}{{ loop.index }}{% endfor %}
{% for c in 'aé中' %}[{{ c }}]{% endfor %}{% for k in d %}{{ k }}{% endfor %}{% for i in range(3) %}{{ i }}{% endfor %}{{ range(1, 10, 3)|list }}{{ range(5, 0, -2)|list }}
{% for x in 5 %}{% endfor %}
{% for a, b in [(1, 2), [3, 4]] %}{{ a }}{{ b }}{% endfor %}{% for (a, b), c in [((1, 2), 3)] %}{{ a + b + c }}{% endfor %}
{% for a, b in [1, 2] %}{% endfor %}
{% set x = 1 %}{% for i in l %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}
{% set ns = namespace(x=1, y='a') %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{{ ns.y }}{{ ns.z }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = 1, 2 %}{{ c }}
{% set x %}abc {{ 1 + 1 }}{% endset %}{{ x | upper }}{% set y | upper | trim %} abc {% endset %}{{ y }}
{% set d.x = 1 %}
{% if t %}{% set inner = 5 %}{% endif %}{{ inner }}
{% macro m(a, b='x', c=none) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(1, c=3) }}{{ m(b=1, a=2) }}{{ m() }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(z=2) }}
{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, z=3) }}
{% macro m(x) %}{% if x > 0 %}{{ x }}{{ m(x - 1) }}{% endif %}{% endmacro %}{{ m(4) }}
{% macro m(x) %}<{{ caller() }}{{ x }}>{% endmacro %}{% call m(1) %}body{% endcall %}
{% macro m() %}{% for i in l %}{{ caller(i) }}{% endfor %}{% endmacro %}{% call(i) m() %}({{ i }}){% endcall %}
{% macro g() %}{{ outer }}{% endmacro %}{% set outer = 'late' %}{{ g() }}
{% for i in l %}{% macro p() %}{{ i }}{% endmacro %}{{ p() }}{% endfor %}
{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}
{% filter upper %}abc {{ s }}{% endfilter %}{% filter replace('a', 'b') | upper %}aaa{% endfilter %}
{% with a = 1, b = 2 %}{{ a + b }}{% set c = 3 %}{% endwith %}{{ a }}{{ c }}
{% generation %}x{% set q = 1 %}{% endgeneration %}{{ q }}
{% raw %}{{ not rendered }}{% if %}{% endraw %}x
a{% raw -%}  b  {%- endraw %}c
{# comment #}a{#- comment -#}  b
x {#- c #} y
  {% if t %}
    a
  {% endif %}
b
  {%- if t -%}
    a
  {%- endif -%}
b
  {%+ if t %}
a
  {%+ endif %}
b
a {{- 1 -}} b {{ 2 }}
c
{% if t +%}
a{% endif %}
{{ "a\nb\t\"\'\\ \x41 \u00e9 \U0001F642 \101 \q" }}
{{ 'adjacent' 'strings' }}{{ "it's" }}{{ 'say "x"' }}
{{ ['it\'s', "say \"x\"", 'both \' "', '\n\t\\', u, 'é', '\x00\x7f'] }}
{{ messages }}
{{ d }}{{ people[0] }}{{ [none, true, 1.5, (1,)] }}
{{ d | tojson }}{{ u | tojson }}{{ s | tojson }}{{ none|tojson }}{{ 1.0|tojson }}{{ [1,[],{}]|tojson }}
{{ tool | tojson(indent=2) }}{{ tool | tojson(indent=4) }}
{{ d | tojson(sort_keys=true) }}{{ d | tojson(separators=(',', ':')) }}{{ u | tojson(ensure_ascii=true) }}{{ {1: 2, none: 3, true: 4}|tojson }}
{{ [1, [2, {'a': {}}]] | tojson(indent=0) }}{{ {'a': 1}|tojson(indent='--') }}
{{ s | upper }}{{ s | lower }}{{ s | title }}{{ s | capitalize }}{{ 'hELLO wORLD-foo (bar) [baz' | title }}{{ u | upper }}{{ 5 | upper }}
{{ s.upper() }}{{ s.title() }}{{ "they're bill's".title() }}{{ 'aBC'.swapcase() }}{{ 'éa'.capitalize() }}
{{ '  x '|trim }}|{{ 'xxaxx'|trim('x') }}|{{ '  x '.lstrip() }}|{{ '  x '.rstrip() }}|{{ 'xyaxy'.strip('yx') }}|{{ messages[1].content|trim }}|{{ 5|trim }}
{{ 'a,b,,c'.split(',') }}{{ ' a  b '.split() }}{{ 'a,b,c'.split(',', 1) }}{{ 'a b c'.split(none, 1) }}{{ 'a,b,c'.rsplit(',', 1) }}{{ ''.split(',') }}{{ ''.split() }}{{ 'a b c'.split(maxsplit=1) }}
{{ 'a'.split('') }}
{{ 'x</think>y</think>z'.split('</think>')[-1] }}{{ 'x</think>y'.split('</think>')[0].rstrip('\n') }}
{{ 'a\nb\r\nc\rd\n'.splitlines() }}{{ 'a\nb'.splitlines(true) }}
{{ s.startswith('The') }}{{ s.endswith('x') }}{{ s.startswith(('a', 'T')) }}{{ s.startswith('') }}
{{ s.replace('o', '0') }}{{ s.replace('o', '0', 1) }}{{ 'abc'.replace('', '-') }}{{ s | replace('quick', 'slow') }}{{ 'aaa'|replace('a', 'b', 2) }}{{ 'é中'.replace('', '.') }}
{{ s.find('quick') }}{{ s.find('z') }}{{ s.rfind('o') }}{{ s.count('o') }}{{ s.index('q') }}{{ 'é中a'.find('a') }}
{{ s.index('zzz') }}
{{ ', '.join(['a', 'b']) }}{{ '-'.join('abc') }}{{ ['a', 1, none] | join('-') }}{{ people | join(', ', attribute='name') }}{{ 'abc'|join('.') }}
{{ ', '.join([1]) }}
{{ 'abc'.isdigit() }}{{ '12'.isdigit() }}{{ 'aé'.isalpha() }}{{ 'a1'.isalnum() }}{{ ' \n'.isspace() }}{{ ''.isspace() }}{{ 'AB1'.isupper() }}{{ 'ab'.islower() }}{{ '1'.islower() }}
{{ 'abc'.removeprefix('a') }}{{ 'abc'.removesuffix('bc') }}{{ 'abc'.removeprefix('x') }}{{ 'a-b-c'.partition('-') }}{{ 'a-b-c'.rpartition('-') }}{{ 'abc'.partition('-') }}{{ 'abc'.rpartition('-') }}
{{ 'ab'.center(5) }}|{{ 'ab'.center(6, '*') }}|{{ 'abc'.center(6) }}|{{ 'ab'.ljust(4) }}|{{ 'ab'.rjust(4, '.') }}|{{ 'foo'|center(8) }}|
{{ l | length }}{{ s | length }}{{ d | count }}{{ u | length }}{{ 'é' | length }}
{{ 5 | length }}
{{ l | first }}{{ l | last }}{{ s | first }}{{ s | last }}{{ [] | first }}{{ [] | last }}{{ d|first }}{{ ''|first }}
{{ l | sort }}{{ l | sort(reverse=true) }}{{ ['b', 'A', 'c'] | sort }}{{ ['b', 'A', 'c'] | sort(case_sensitive=true) }}{{ people | sort(attribute='age') | map(attribute='name') | list }}{{ people|sort(attribute='age,name')|map(attribute='name')|list }}
{{ people | sort(attribute='age', reverse=true) | map(attribute='name') | list }}
{{ [1, 'a'] | sort }}
{{ l | reverse | list }}{{ s | reverse }}{{ u|reverse }}
{{ ['a', 'A', 'b', 'a'] | unique | list }}{{ ['a', 'A'] | unique(case_sensitive=true) | list }}{{ people|unique(attribute='age')|map(attribute='name')|list }}
{{ l | min }}{{ l | max }}{{ l | sum }}{{ people | sum(attribute='age') }}{{ [] | max }}{{ ['b', 'A']|min }}{{ [1.5, 2]|sum(start=1) }}
{{ people | map(attribute='name') | join(',') }}{{ people | map(attribute='x.y', default='-') | list }}{{ ['a', 'b'] | map('upper') | list }}{{ ['a b']|map('replace', ' ', '_')|list }}{{ l|map('string')|list }}
{{ l | select('gt', 1) | list }}{{ l | select('odd') | list }}{{ l | reject('equalto', 1) | list }}{{ [0, 1, '', 'a'] | select | list }}{{ [0, 1]|reject|list }}{{ l|select('in', [1,2])|list }}
{{ people | selectattr('age', 'equalto', 25) | map(attribute='name') | list }}{{ people | rejectattr('x') | list }}{{ people | selectattr('x', 'defined') | list | length }}{{ people | selectattr('name', '==', 'Bob') | list }}{{ messages|selectattr('role', 'in', ['user', 'system'])|list|length }}
{{ none | default('x') }}{{ undefined_name | default('x') }}{{ e | default('x') }}{{ e | default('x', true) }}{{ none | d('x', boolean=true) }}{{ d.q.r | default('x') }}
{{ d.q | default('x') }}{{ undefined_name | default }}
{{ '5' | int }}{{ 'x' | int }}{{ 'x' | int(7) }}{{ '3.7' | int }}{{ 3.7 | int }}{{ '0x1f' | int(base=16) }}{{ ' 12 '|int }}{{ true|int }}{{ none|int }}{{ '-5'|int }}
{{ '2.5' | float }}{{ 'x' | float }}{{ 3 | float }}{{ 'x'|float(1.5) }}{{ '1e3'|float }}
{{ 2.567 | round(2) }}{{ 2.5 | round }}{{ 3.5|round }}{{ 2.1 | round(0, 'ceil') }}{{ 2.9 | round(method='floor') }}{{ 42|round }}{{ -3 | abs }}{{ -2.5|abs }}
{{ 'a\nb\n\nc' | indent }}|{{ 'a\nb' | indent(2, true) }}|{{ 'a\n\nb' | indent(2, blank=true) }}|{{ 'a\nb' | indent('> ') }}|{{ ''|indent }}|{{ 'a\n'|indent }}|
{{ '<a> & "b" \'c\'' | escape }}{{ '<'|e }}{{ s | string }}{{ 5|string }}{{ d|string }}{{ l|list }}{{ 'ab'|list }}{{ d|list }}{{ s|safe }}
{{ 'hello world foo'|truncate(11) }}{{ 'hello world foo'|truncate(8, true) }}{{ 'hello'|truncate(4) }}{{ 'hello world foo'|truncate(9, leeway=0) }}{{ 'a b  c'|wordcount }}{{ '%s is %d %%'|format('x', 5) }}
{{ [1,2,3,4,5]|batch(2)|list }}{{ [1,2,3]|batch(2, 'x')|list }}
{{ d | items | list }}{{ undefined_name|items|list }}
{{ 5 is number }}{{ 5.5 is number }}{{ true is number }}{{ 5 is integer }}{{ true is integer }}{{ 5.5 is float }}{{ 'a' is string }}{{ true is boolean }}{{ none is none }}{{ true is true }}{{ 1 is true }}{{ false is false }}
{{ d is mapping }}{{ l is mapping }}{{ d is iterable }}{{ l is iterable }}{{ s is iterable }}{{ 5 is iterable }}{{ d is sequence }}{{ l is sequence }}{{ s is sequence }}{{ 5 is sequence }}{{ undefined_name is sequence }}{{ undefined_name is iterable }}{{ undefined_name is mapping }}
{{ 4 is divisibleby 2 }}{{ 4 is even }}{{ 3 is odd }}{{ 4 is divisibleby(3) }}{{ 1 is eq 1 }}{{ 1 is equalto 2 }}{{ 2 is gt 1 }}{{ 1 is in [1, 2] }}{{ 1 is not in [2] }}{{ 'A' is upper }}{{ 'a' is lower }}{{ none is sameas none }}{{ 1 is sameas true }}{{ 1 is ne 2 }}{{ 1 is lessthan 2 }}
{{ 5 is defined and true }}{{ undefined_name is not defined or false }}{{ 'a' if undefined_name is defined else 'b' }}{{ not undefined_name is defined }}{{ range is callable }}{{ 5 is callable }}{{ 'upper' is filter }}{{ 'odd' is test }}
{{ l.append(1) }}
{{ d.update({}) }}
{{ d.pop('a') }}
{{ l.count(1) }}{{ l.index(2) }}{{ dict(a=1, b=2) }}{{ dict({'a': 1}, b=2) }}
{{ ''.__class__ }}
{{ ''.__class__.__mro__ }}
{{ messages.__init__.__globals__ }}
{{ strftime_now('%Y-%m-%d') }} {{ strftime_now('%d %b %Y') }} {{ strftime_now('%B %A %H:%M:%S %j %-d') }}
{{ raise_exception('no ' ~ n) }}
{{ range(200000)|length }}
{{ 10 ** 2 ** 2 }}{{ -2 ** 2 }}{{ 2 * 3 + 4 * 5 - 6 / 2 }}{{ 1 + 2 ~ 3 + 4 }}{{ 2 - 1 - 1 }}{{ not 1 == 2 }}{{ -1 | abs }}{{ 'a' ~ 'b' | upper }}{{ (1, 2) | first }}
{{ 1 | string + 'a' }}{{ 'x' if 1 == 1 and not 2 == 3 else 'y' }}{{ [1, 2, 3][1] }}{{ {'a': 1}.a }}{{ {'a': {'b': 2}}['a']['b'] }}{{ 'abc'[1] | upper }}{{ ('a' ~ 'b')[1] }}
{{ 1_000 }}{{ 1_0.5_0 }}{{ 'a' is string and 'b' is string }}{{ [1,] }}{{ {'a': 1,} }}
{{ {'a': {}} }}{{ {} }}{{ [{'a': [{}]}] }}
{{ }}
{% if %}{% endif %}
{% if t %}
{% endfor %}
{{ 'unclosed }}
{{ (1 }}
{{ 1 2 }}
{% foo %}
{{ a b }}
{% for x l %}{% endfor %}
{% macro m(a=1, b) %}{% endmacro %}
{% break %}
{{ 'a'|nosuch }}
{{ 'a' is nosuch }}
{% if false %}{{ 'a'|upper }}{% elif t %}elif{% else %}else{% endif %}{% if false %}x{% else %}else{% endif %}
{% for m in messages %}{{ m.role ~ ': ' ~ (m['content'] | trim) ~ eos }}{% if not loop.last %}, {% endif %}{% endfor %}
{{ messages | map(attribute='content') | map('trim') | join('|') }}
{% for m in messages if m.role != 'system' %}{{ loop.index0 }}{{ m.role }}{% endfor %}{{ messages[1:] | length }}{{ messages[0].role == 'system' and messages | length > 1 }}
{{ 9223372036854775807 + 0 }}{{ -9223372036854775807 - 1 }}{{ true + 1 }}{{ true ~ '' }}
{{ 'a' == 'a' != 'b' }}{{ [1, 2] == [1, 2] }}{{ (1, 2) == [1, 2] }}{{ {'a': 1} == {'a': 1.0} }}{{ none == none }}{{ none == false }}
{{ 'line\nbreak' }}{{ "multi
line" }}
  {{ 1 }}  
 {% set a = 1 -%}  
  b
{% for i in [1, 2] -%}
  {{ i }}
{%- endfor %}
{%- set ns = namespace(found=false) -%}{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.found = true -%}{%- endif -%}{%- endfor -%}{{ ns.found }}
{{ [1,2]|join(d='+') }}{{ 'a'.join(d='b') }}
{{ s.split(sep=' ')|length }}{{ 'a'|replace(old='a', new='b') }}
{% macro a(*x) %}{% endmacro %}
{% macro m(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ m(*[1, 2]) }}{{ m(**{'a': 3, 'b': 4}) }}
{% set x = [1] %}{% set x = x + [2] %}{{ x }}{% set y = x %}{{ y is sameas x }}
{{ loop }}
{% for i in l %}{{ loop.index is divisibleby 2 }}{{ loop['first'] }}{% endfor %}
{{ messages[0]["content"] | replace("<b>", "") | replace("</b>", "") | upper | lower | title }}
{{ u }}{{ u|length }}{{ u[3] }}{{ u.split('\u4e2d') }}{{ ('ß' ~ 'ﬁ')|upper|length > 1 }}
{{ ('a' 'b', 'c')|list }}{{ 1, 2 }}{{ (1, (2, 3)) }}
'''

SEVERAL_LINES = [
    '  {% if t %}\n    a\n  {% endif %}\nb',
    'x\n  {%- if t -%}\n    a\n  {%- endif -%}\nb',
    '  {%+ if t %}\na\n  {%+ endif %}\nb',
    'a {{- 1 -}} b {{ 2 }}\nc\n',
    '{% if t +%}\na{% endif %}\n',
    '{{ "multi\nline" }}',
    ' {% set a = 1 -%}  \n  b',
    '{% for i in [1, 2] -%}\n  {{ i }}\n{%- endfor %}\n',
    '  {{ 1 }}  \n  {# c #}\n  x\n{# c #}\n\n{% set a = 1 %}\n\ny\r\nz\n\n',
    '{% raw %}\n a\n  {% endraw %}\nb',
    'x\n\t {%- set a = 1 +%}\ny {#- c -#}\n z',
    'a\n  {{ 1 }}\n  {% set b = 2 %}  \n  c',
]


def render(template):
    try:
        return {"template": template, "text": ENVIRONMENT.from_string(template).render(**DATA)}
    except Exception:  # of whatever kind: the interpreter must refuse too
        return {"template": template, "error": True}


def main():
    templates = LINES.strip("\n").split("\n") + SEVERAL_LINES
    json.dump({"jinja2": jinja2.__version__, "data": DATA, "cases": [render(t) for t in templates]},
              sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
