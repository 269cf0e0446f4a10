// Hostile templates: each ends with one clear error, soon and without a crash.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/text/template_golden.h"

namespace donar::text {
namespace {

std::string repeat(const std::string& text, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += text;
  return out;
}

std::string error_of(const std::string& source) {
  ChatInput input;
  input.messages = {json::object{{"role", "user"}, {"content", "hi"}}};
  const auto prompt = render_golden(source, {}, input);
  return prompt ? "no error, but: " + prompt->text.substr(0, 200) : prompt.error().message;
}

struct Hostile {
  const char* name;
  std::string source;
  const char* message;
};

void PrintTo(const Hostile& h, std::ostream* out) { *out << h.name; }

class HostileTemplate : public testing::TestWithParam<Hostile> {};

TEST_P(HostileTemplate, ends_with_an_error) {
  EXPECT_THAT(error_of(GetParam().source), testing::HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Jinja, HostileTemplate,
    testing::Values(
        Hostile{"nested_parentheses",
                "{{ " + repeat("(", 100000) + "1" + repeat(")", 100000) + " }}", "nests deeper"},
        Hostile{"nested_lists", "{{ " + repeat("[", 100000) + repeat("]", 100000) + " }}",
                "nests deeper"},
        Hostile{"nested_dicts", "{{ " + repeat("{1:", 100000) + repeat("}", 100000) + " }}",
                "nests deeper"},
        Hostile{"nested_not", "{{ " + repeat("not ", 100000) + "1 }}", "nests deeper"},
        Hostile{"nested_minus", "{{ " + repeat("-", 100000) + "1 }}", "nests deeper"},
        Hostile{"nested_if", repeat("{% if 1 %}", 100000), "nests deeper"},
        Hostile{"nested_ternary", "{{ " + repeat("1 if 1 else ", 100000) + "1 }}", "nests deeper"},
        Hostile{"long_sum", "{{ 1" + repeat(" + 1", 100000) + " }}", "levels"},
        Hostile{"long_attributes", "{{ a" + repeat(".b", 100000) + " }}", "levels"},
        Hostile{"long_filters", "{{ a" + repeat("|trim", 100000) + " }}", "levels"},
        Hostile{"long_calls", "{{ a" + repeat("()", 100000) + " }}", "levels"},
        Hostile{"macro_without_end", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
                "endless recursion"},
        Hostile{
            "two_macros",
            "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
            "endless recursion"},
        Hostile{"macro_in_default", "{% macro m(x=m()) %}{% endmacro %}{{ m() }}",
                "endless recursion"},
        Hostile{"loop_without_end", "{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
                "endless recursion"},
        Hostile{"caller_without_end",
                "{% macro m() %}{{ caller() }}{% endmacro %}{% macro r() %}{% call m() %}{{ r() "
                "}}{% endcall %}{% endmacro %}{{ r() }}",
                "endless recursion"},
        Hostile{"huge_range", "{% for i in range(1000000000000) %}{% endfor %}", "range()"},
        Hostile{"nested_ranges",
                "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
                "more than"},
        Hostile{"huge_string", "{{ 'ab' * 10000000000 }}", "limit"},
        Hostile{"huge_list", "{{ [1] * 10000000000 }}", "more than"},
        Hostile{"doubling_string",
                "{% set n = namespace(s='ab') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s "
                "%}{% endfor %}",
                "limit"},
        Hostile{"doubling_replace",
                "{% set n = namespace(s='ab') %}{% for i in range(99) %}{% set n.s = "
                "n.s|replace('a', 'aa')|replace('b', n.s) %}{% endfor %}",
                "more than"},
        Hostile{"doubling_output",
                "{% macro m(n) %}{% if n > 0 %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}x{% endmacro "
                "%}{{ m(60) }}",
                "more than"},
        Hostile{"nesting_value",
                "{% set n = namespace(l=[]) %}{% for i in range(9999) %}{% set n.l = [n.l] %}{% "
                "endfor %}",
                "nests deeper"},
        Hostile{"shared_value_printed",
                "{% set n = namespace(l=['x']) %}{% for i in range(100) %}{% set n.l = [n.l, n.l] "
                "%}{% endfor %}{{ n.l }}",
                "more than"},
        Hostile{"shared_value_as_json",
                "{% set n = namespace(l=['x']) %}{% for i in range(100) %}{% set n.l = [n.l, n.l] "
                "%}{% endfor %}{{ n.l|tojson }}",
                "more than"},
        Hostile{"shared_value_compared",
                "{% set n = namespace(a=['x'], b=['x']) %}{% for i in range(100) %}{% set n.a = "
                "[n.a, n.a] %}{% set n.b = [n.b, n.b] %}{% endfor %}{{ n.a == n.b }}",
                "more than"},
        Hostile{"cycle_printed", "{% set n = namespace() %}{% set n.me = n %}{{ n }}",
                "nests deeper"},
        Hostile{"huge_power", "{{ 10 ** 1000 }}", "too large"},
        Hostile{"huge_product", "{{ 10 ** 30 * 10 ** 30 }}", "too large"},
        Hostile{"huge_width", "{{ '%999999999999d' % 1 }}", "width"},
        Hostile{"huge_field", "{{ '{:>999999999}'.format(1) }}", "width"},
        Hostile{"huge_center", "{{ 'a'|center(99999999999) }}", "limit"},
        Hostile{"huge_indent", "{{ 'a\nb'|indent(99999999999) }}", "limit"},
        Hostile{"huge_json_indent",
                "{% set n = namespace(l=['x']) %}{% for i in range(100) %}{% set n.l = [n.l] %}{% "
                "endfor %}{% for i in range(99) %}{{ n.l|tojson(indent=99999) }}{% endfor %}",
                "limit"},
        Hostile{"huge_batch",
                "{{ [1]|batch(1000000, 'x')|list|length }}{{ range(99999)|batch(1)|list * 99999 }}",
                "more than"}),
    [](const auto& info) { return info.param.name; });

TEST(JinjaLimits, a_template_may_be_as_deep_as_real_ones_are) {
  ChatInput input;
  input.messages = {json::object{{"role", "user"}, {"content", "hi"}}};
  const auto sum = render_golden("{{ 1" + repeat(" + 1", 150) + " }}", {}, input);
  ASSERT_TRUE(sum) << sum.error().message;
  EXPECT_EQ(sum->text, "151");
  const auto macro = render_golden(
      "{% macro m(n) %}{% if n > 0 %}{% for i in [1] %}{{ n ~ m(n - 1) }}{% endfor %}{% endif %}{% "
      "endmacro %}{{ m(60) }}",
      {}, input);
  ASSERT_TRUE(macro) << macro.error().message;
  EXPECT_EQ(macro->text.substr(0, 6), "605958");
}

TEST(JinjaLimits, a_long_conversation_stays_within_the_limits) {
  ChatInput input;
  for (int i = 0; i < 2000; ++i) {
    input.messages.push_back(
        json::object{{"role", i % 2 ? "assistant" : "user"}, {"content", std::string(2000, 'x')}});
  }
  const auto prompt = render_golden(
      "{% for m in messages %}<|im_start|>{{ m.role + '\n' + m.content|trim }}<|im_end|>\n{% "
      "endfor %}",
      {}, input);
  ASSERT_TRUE(prompt) << prompt.error().message;
  EXPECT_GT(prompt->text.size(), 4'000'000u);
}

TEST(JinjaLimits, deep_json_of_the_caller_is_an_error) {
  json::value deep = 1;
  for (int i = 0; i < 500; ++i) deep = json::array{deep};
  ChatInput input;
  input.messages = {json::object{{"role", "user"}, {"content", deep}}};
  const auto prompt = render_golden("{{ messages }}", {}, input);
  ASSERT_FALSE(prompt);
  EXPECT_NE(prompt.error().message.find("nests deeper"), std::string::npos)
      << prompt.error().message;
}

}  // namespace
}  // namespace donar::text
