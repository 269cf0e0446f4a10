// Errors of templates say where and what.
#include <gtest/gtest.h>

#include <string>

#include "tests/text/template_golden.h"

namespace donar::text {
namespace {

Error error_of(const std::string& source) {
  ChatInput input;
  input.messages = {json::object{{"role", "user"}, {"content", "hi"}}};
  const auto prompt = render_golden(source, {}, input);
  return prompt ? Error{ErrorCode::kInternal, "no error, but: " + prompt->text, {}}
                : prompt.error();
}

struct Broken {
  const char* source;
  const char* message;
};

void PrintTo(const Broken& b, std::ostream* out) { *out << b.source; }

class BrokenTemplate : public testing::TestWithParam<Broken> {};

TEST_P(BrokenTemplate, is_data_loss_with_line_and_column) {
  const Error error = error_of(GetParam().source);
  EXPECT_EQ(error.code, ErrorCode::kDataLoss) << error.message;
  EXPECT_EQ(error.message, GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Jinja, BrokenTemplate,
    testing::Values(
        Broken{"{% if x %}",
               "chat template, line 1, column 4: the tag 'if' is never closed: add {% endif %}"},
        Broken{"a\n  {{ 1 + }}",
               "chat template, line 2, column 10: expected an expression, found 'end of print "
               "statement'"},
        Broken{"a\r\n{{ 1|nofilter }}",
               "chat template, line 2, column 6: unknown filter 'nofilter'"},
        Broken{"{{ 1 is notest }}", "chat template, line 1, column 9: unknown test 'notest'"},
        Broken{"\xC3\xA9\xC3\xA9{% nope %}", "chat template, line 1, column 6: unknown tag 'nope'"},
        Broken{"{{ 'abc }}", "chat template, line 1, column 4: this string has no end"},
        Broken{"x\n{{ (1] }}", "chat template, line 2, column 6: unexpected ']', expected ')'"},
        Broken{"{{ a", "chat template, line 1, column 1: this expression has no end: add }}"},
        Broken{"\n{% set x", "chat template, line 2, column 1: this tag has no end: add %}"},
        Broken{"{# x", "chat template, line 1, column 1: this comment has no end: add #}"},
        Broken{"{% raw %}{{ x",
               "chat template, line 1, column 1: this raw block has no end: add {% endraw %}"},
        Broken{"{{ a ? b }}", "chat template, line 1, column 6: unexpected character '?'"},
        Broken{"{% for x in y %}{% endif %}",
               "chat template, line 1, column 20: unknown tag 'endif'"},
        Broken{"{% break %}", "chat template, line 1, column 4: 'break' outside of a loop"},
        Broken{"{% set 1 = 2 %}", "chat template, line 1, column 8: this cannot be assigned to"},
        Broken{"{{ f(a=1, 2) }}",
               "chat template, line 1, column 11: a positional argument cannot follow named or * "
               "arguments"}));

TEST(JinjaErrors, a_failing_render_is_the_callers_fault_and_names_the_line) {
  EXPECT_EQ(error_of("\n\n{{ nope.x }}").code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(error_of("\n\n{{ nope.x }}").message,
            "chat template, line 3: 'nope' is undefined (its attribute 'x' was asked for)");
  EXPECT_EQ(
      error_of("{{ messages[0].nope[0] }}").message,
      "chat template, line 1: this dict has no attribute 'nope' (its item int was asked for)");
  EXPECT_EQ(
      error_of("{% if true %}\n{{ raise_exception('no ' ~ messages[0].role) }}{% endif %}").message,
      "chat template, line 2: no user");
  EXPECT_EQ(error_of("{{ 'a'\n + 1 }}").message,
            "chat template, line 2: can only concatenate str (not \"int\") to str: use ~ or the "
            "filter string");
  EXPECT_EQ(error_of("{{ [].append(1) }}").message,
            "chat template, line 1: 'append' of a list is not allowed in a template: values cannot "
            "be changed");
}

TEST(JinjaErrors, an_unknown_filter_in_a_branch_that_is_not_taken_does_no_harm) {
  EXPECT_EQ(error_of("{% if false %}{{ 1|nofilter }}{% endif %}ok").message, "no error, but: ok");
  EXPECT_EQ(error_of("{% if true %}{{ 1|nofilter }}{% endif %}").message,
            "chat template, line 1: unknown filter 'nofilter'");
}

}  // namespace
}  // namespace donar::text
