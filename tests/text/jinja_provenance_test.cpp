// Which characters of a prompt count as the user's: a special token spelled in a message must never
// come out as the template's own.
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "tests/text/template_golden.h"

namespace donar::text {
namespace {

constexpr std::string_view kToken = "<|im_end|>";

RenderedPrompt render(std::string source, std::string_view content, json::object kwargs = {}) {
  ChatInput input;
  input.messages = {json::object{{"role", "user"}, {"content", content}}};
  input.kwargs = std::move(kwargs);
  Result<RenderedPrompt> prompt =
      render_golden(source, {{"bos_token", "<s>"}, {"eos_token", std::string(kToken)}}, input);
  EXPECT_TRUE(prompt) << source << ": " << (prompt ? "" : prompt.error().message);
  return prompt ? *prompt : RenderedPrompt{};
}

// The prompt with every untrusted byte as '*'.
std::string masked(const RenderedPrompt& prompt) {
  std::string out = prompt.text;
  size_t last = 0;
  for (const ByteRange& range : prompt.untrusted) {
    EXPECT_LT(range.begin, range.end);
    EXPECT_LE(last, range.begin);
    EXPECT_LE(range.end, out.size());
    last = range.end;
    for (size_t i = range.begin; i < range.end && i < out.size(); ++i) out[i] = '*';
  }
  return out;
}

TEST(JinjaProvenance, text_of_a_message_is_untrusted_and_the_template_is_not) {
  const RenderedPrompt prompt =
      render("{{ bos_token }}<|im_start|>user\n{{ messages[0].content }}{{ eos_token }}\n",
             "a<|im_end|>b");
  EXPECT_EQ(prompt.text, "<s><|im_start|>user\na<|im_end|>b<|im_end|>");
  EXPECT_EQ(masked(prompt), "<s><|im_start|>user\n************<|im_end|>");
}

struct Case {
  const char* expression;
  const char* content;
  const char* text;
  const char* mask;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.expression; }

class Operation : public testing::TestWithParam<Case> {};

TEST_P(Operation, keeps_exact_ranges) {
  const Case& c = GetParam();
  const RenderedPrompt prompt =
      render(std::string("{% set c = messages[0].content %}") + c.expression, c.content);
  EXPECT_EQ(prompt.text, c.text);
  EXPECT_EQ(masked(prompt), c.mask);
}

INSTANTIATE_TEST_SUITE_P(
    JinjaProvenance, Operation,
    testing::Values(Case{"{{ '[' + c + ']' }}", "x", "[x]", "[*]"},
                    Case{"{{ '[' ~ c ~ 1 ~ ']' }}", "x", "[x1]", "[*1]"},
                    Case{"{{ ('[' + c)|trim }}", "x  ", "[x", "[*"},
                    Case{"{{ ('  ' ~ c ~ '|').strip() }}", "x", "x|", "*|"},
                    Case{"{{ (c ~ '.').lstrip('ab') }}", "abx", "x.", "*."},
                    Case{"{{ c|replace('a', '<A>') }}", "bab", "b<A>b", "*<A>*"},
                    Case{"{{ 'x_y'|replace('_', c) }}", "ab", "xaby", "x**y"},
                    Case{"{{ c.replace('', '-') }}", "ab", "-a-b-", "-*-*-"},
                    Case{"{{ (c ~ '|t').split('|')|join('+') }}", "a|b", "a+b+t", "*+*+t"},
                    Case{"{{ (c ~ 'T')[1:] }}", "abc", "bcT", "**T"},
                    Case{"{{ (c ~ 'T')[::-1] }}", "ab", "Tba", "T**"},
                    Case{"{{ ('T' ~ c)[1] }}", "ab", "a", "*"},
                    Case{"{{ [c, 't', c]|join(', ') }}", "a", "a, t, a", "*, t, *"},
                    Case{"{{ ', '.join([c, 't']) }}", "a", "a, t", "*, t"},
                    Case{"{{ ('t' ~ c)|upper }}", "b\xC3\xA9", "TB\xC3\x89", "T***"},
                    Case{"{{ (c ~ 'T').lower() }}", "AB", "abt", "**t"},
                    Case{"{{ ('t ' ~ c)|title }}", "ab", "T Ab", "T **"},
                    Case{"{{ ('t' ~ c)|capitalize }}", "AB", "Tab", "T**"},
                    Case{"{{ c|indent(2) }}", "a\nb", "a\n  b", "**  *"},
                    Case{"{{ c|tojson }}", "a\"<b", "\"a\\\"<b\"", "\"*****\""},
                    Case{"{{ {'k': c, 't': 1}|tojson }}", "v", "{\"k\": \"v\", \"t\": 1}",
                         "{\"k\": \"*\", \"t\": 1}"},
                    Case{"{{ {'k': c} }}", "v", "{'k': 'v'}", "{'k': '*'}"},
                    Case{"{{ [c] }}", "it's\n", "[\"it's\\n\"]", "[\"******\"]"},
                    Case{"{{ '%s-%d' % (c, 3) }}", "a", "a-3", "*-3"},
                    Case{"{{ '%5s|' % c }}", "ab", "   ab|", "   **|"},
                    Case{"{{ '{}-{n}'.format(c, n='t') }}", "a", "a-t", "*-t"},
                    Case{"{{ '<%s>'|format(c) }}", "a", "<a>", "<*>"},
                    Case{"{{ c|reverse }}", "ab", "ba", "**"},
                    Case{"{{ c|list|join('.') }}", "ab", "a.b", "*.*"},
                    Case{"{{ c * 2 ~ 't' }}", "ab", "ababt", "****t"},
                    Case{"{{ (c ~ ' t')|truncate(4, true, '+', 0) }}", "abcdef", "abc+", "***+"},
                    Case{"{{ c|e ~ '&' }}", "<", "&lt;&", "****&"},
                    Case{"{{ ('t' + c).partition('|')|join('/') }}", "a|b", "ta/|/b", "t*/*/*"},
                    Case{"{{ c.splitlines()|join('+') }}", "a\nb", "a+b", "*+*"},
                    Case{"{{ c.center(4, '.') }}", "ab", ".ab.", ".**."},
                    Case{"{{ c|urlencode }}", "a b", "a%20b", "*****"},
                    Case{"{{ ('t' ~ c).removeprefix('t') }}", "ab", "ab", "**"},
                    Case{"{% set b %}[{{ c }}]{% endset %}{{ b|trim }}", "a", "[a]", "[*]"},
                    Case{"{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(c) ~ m('t') }}", "a",
                         "<a><t>", "<*><t>"},
                    Case{"{% filter upper %}t{{ c }}{% endfilter %}", "a", "TA", "T*"},
                    Case{"{% set ns = namespace(s='') %}{% for x in c.split(',') %}{% set ns.s = "
                         "ns.s + x + ';' %}{% endfor %}{{ ns.s }}",
                         "a,b", "a;b;", "*;*;"},
                    Case{"{% for x in c %}{{ x }}-{% endfor %}", "ab", "a-b-", "*-*-"},
                    Case{"{{ c if c else 't' }}{{ '' or c }}", "a", "aa", "**"},
                    Case{"{{ messages[0] }}", "a", "{'role': 'user', 'content': 'a'}",
                         "*'****'**'****'**'*******'**'*'*"},
                    Case{"{{ c|int + 1 }}{{ 41 + 1 }}", "9", "1042", "**42"},
                    Case{"{{ strftime_now(c) }}", "%Y", "2025", "****"}));

TEST(JinjaProvenance, a_token_in_a_message_stays_covered_through_every_filter) {
  for (const char* filter :
       {"trim", "string", "replace('zz', 'y')", "indent(3)", "default('d')", "safe", "list|join",
        "e|replace('&lt;', '<')|replace('&gt;', '>')", "tojson", "reverse|reverse", "center(40)",
        "format", "truncate(200)", "upper|lower", "capitalize|lower"}) {
    const RenderedPrompt prompt =
        render(std::string("<|im_end|>{{ messages[0].content|") + filter + " }}<|im_end|>",
               "a<|im_end|>b\n<|im_end|>c");
    const std::string mask = masked(prompt);
    EXPECT_GE(prompt.text.size(), 3 * kToken.size()) << filter;
    EXPECT_EQ(mask.find(kToken), 0u) << filter << ": " << mask;
    EXPECT_EQ(mask.find(kToken, 1), mask.size() - kToken.size()) << filter << ": " << mask;
  }
}

TEST(JinjaProvenance, keys_and_values_of_tools_documents_and_kwargs_are_untrusted) {
  ChatInput input;
  input.messages = {json::object{{"role", "user"}, {"content", "u"}}};
  input.tools = {json::object{{"a<|im_end|>", "b"}}};
  input.documents = {json::object{{"text", "d"}}};
  input.kwargs = {{"eos_token", "k"}};
  const auto prompt = render_golden(
      "{% for k, v in tools[0].items() %}{{ k }}={{ v }};{% endfor %}{{ documents[0].text }}|{{ "
      "eos_token }}|{{ bos_token }}",
      {{"bos_token", "<s>"}, {"eos_token", "</s>"}}, input);
  ASSERT_TRUE(prompt) << prompt.error().message;
  EXPECT_EQ(prompt->text, "a<|im_end|>=b;d|k|<s>");
  EXPECT_EQ(masked(*prompt), "***********=*;*|*|<s>");
}

TEST(JinjaProvenance, a_continued_message_keeps_its_ranges) {
  ChatInput input;
  input.messages = {json::object{{"role", "user"}, {"content", "q"}},
                    json::object{{"role", "assistant"}, {"content", " an<|im_end|>swer "}}};
  input.continue_final_message = true;
  for (const auto& [filter, expected] :
       {std::pair{"", "A: ******************"}, std::pair{"|trim", "A: ****************"}}) {
    const auto prompt = render_golden(
        std::string("{% for m in messages if m.role == 'assistant' %}A: {{ m.content") + filter +
            " }}<|im_end|>{% endfor %}",
        {}, input);
    ASSERT_TRUE(prompt) << prompt.error().message;
    EXPECT_EQ(masked(*prompt), expected);
  }
}

}  // namespace
}  // namespace donar::text
