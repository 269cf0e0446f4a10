// Content formats, content parts and roles.
#include "server/message_content.h"

#include <gtest/gtest.h>

#include "server/json_text.h"

namespace donar::server {
namespace {

std::string normalized(const std::string& messages, ContentFormat format,
                       bool knows_developer = false) {
  const auto result = normalize_messages(parse_json(messages)->as_array(), format, knows_developer);
  return result ? to_json_text(json::value(*result)) : "error: " + result.error().message;
}

TEST(ContentFormatOf, a_loop_over_content_means_a_list) {
  for (const char* source :
       {"{% for m in messages %}{% for part in m.content %}{% endfor %}{% endfor %}",
        "{%- for item in message['content'] -%}", "{%- for c in message[\"content\"] | reverse %}",
        "{% set content = m.content %}{% for c in content if c.type == 'text' %}"})
    EXPECT_EQ(detect_content_format(source), ContentFormat::kOpenAi) << source;
  for (const char* source : {"{% for m in messages %}{{ m.content }}{% endfor %}", "", "{% for",
                             "{{ 'for x in content' }}", "{% for x in content.split('a') %}",
                             "{% for m in messages %}{{ m['content'] }}"})
    EXPECT_EQ(detect_content_format(source), ContentFormat::kString) << source;
}

TEST(MessageContent, parts_are_joined_for_string_templates) {
  EXPECT_EQ(
      normalized(
          R"([{"role":"user","content":[{"type":"text","text":"a"},"b",{"type":"input_text","text":"c"}]}])",
          ContentFormat::kString),
      R"([{"role":"user","content":"a\nb\nc"}])");
  EXPECT_EQ(normalized(R"([{"role":"user","content":[]}])", ContentFormat::kString),
            R"([{"role":"user","content":""}])");
}

TEST(MessageContent, strings_become_parts_for_list_templates) {
  EXPECT_EQ(normalized(R"([{"role":"user","content":"a"}])", ContentFormat::kOpenAi),
            R"([{"role":"user","content":[{"type":"text","text":"a"}]}])");
}

TEST(MessageContent, a_developer_is_a_system_where_the_template_knows_none) {
  EXPECT_EQ(normalized(R"([{"role":"developer","content":"a"}])", ContentFormat::kString),
            R"([{"role":"system","content":"a"}])");
  EXPECT_EQ(normalized(R"([{"role":"developer","content":"a"}])", ContentFormat::kString, true),
            R"([{"role":"developer","content":"a"}])");
}

TEST(MessageContent, other_fields_stay) {
  const char* messages =
      R"([{"role":"tool","tool_call_id":"x","content":"5","name":"f"},{"role":"assistant","content":null}])";
  EXPECT_EQ(normalized(messages, ContentFormat::kString), messages);
}

TEST(MessageContent, errors_name_the_message) {
  EXPECT_EQ(normalized(R"([{"role":"user","content":"a"},5])", ContentFormat::kString),
            "error: messages[1]: a message must be an object");
  EXPECT_EQ(normalized(R"([{"role":5}])", ContentFormat::kString),
            "error: messages[0]: a message needs a string field \"role\"");
  EXPECT_EQ(normalized(R"([{"role":"user","content":5}])", ContentFormat::kString),
            "error: messages[0]: content must be a string or a list of parts");
  EXPECT_EQ(normalized(R"([{"role":"user","content":[{"text":"a"}]}])", ContentFormat::kString),
            "error: messages[0]: a content part needs a string field \"type\"");
  EXPECT_EQ(normalized(R"([{"role":"user","content":[{"type":"text"}]}])", ContentFormat::kString),
            "error: messages[0]: the text part has no text");
  EXPECT_NE(
      normalized(R"([{"role":"user","content":[{"type":"input_audio"}]}])", ContentFormat::kString)
          .find("input_audio"),
      std::string::npos);
}

}  // namespace
}  // namespace donar::server
