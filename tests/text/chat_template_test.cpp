// ChatTemplate around the engine: where templates are found, how messages are prepared, which names
// callers may set.
#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/text/template_golden.h"

namespace donar::text {
namespace {

namespace fs = std::filesystem;

class ChatTemplateFiles : public testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        fs::path(testing::TempDir()) /
        (std::string("donar_") + testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_ / "additional_chat_templates");
  }
  void TearDown() override { fs::remove_all(folder_); }

  void write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
  }

  std::string render(bool with_tools = false) {
    const auto found = ChatTemplate::from_directory(folder_, {});
    if (!found) return "error: " + found.error().message;
    ChatInput input;
    if (with_tools) input.tools = {json::object{{"type", "function"}}};
    const auto prompt = found->render(input);
    return prompt ? prompt->text : "error: " + prompt.error().message;
  }

  fs::path folder_;
};

TEST_F(ChatTemplateFiles, the_jinja_file_comes_before_tokenizer_config_before_chat_template_json) {
  write("chat_template.json", R"({"chat_template": "json"})");
  EXPECT_EQ(render(), "json");
  write("tokenizer_config.json", R"({"chat_template": "config"})");
  EXPECT_EQ(render(), "config");
  write("chat_template.jinja", "jinja");
  EXPECT_EQ(render(), "jinja");
}

TEST_F(ChatTemplateFiles, a_config_without_template_leaves_the_legacy_file) {
  write("tokenizer_config.json", R"({"chat_template": null, "bos_token": "<s>"})");
  write("chat_template.json", R"({"chat_template": "json"})");
  EXPECT_EQ(render(), "json");
}

TEST_F(ChatTemplateFiles, requests_with_tools_take_the_template_named_tool_use) {
  write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "T{{ tools|length }}"}]})");
  EXPECT_EQ(render(), "plain");
  EXPECT_EQ(render(/*with_tools=*/true), "T1");
  EXPECT_TRUE(ChatTemplate::from_directory(folder_, {})->uses_tools());
  EXPECT_EQ(ChatTemplate::from_directory(folder_, {})->source(), "plain");
}

TEST_F(ChatTemplateFiles, the_additional_folder_adds_named_templates) {
  write("chat_template.jinja", "plain");
  write("additional_chat_templates/tool_use.jinja", "tools");
  EXPECT_EQ(render(), "plain");
  EXPECT_EQ(render(/*with_tools=*/true), "tools");
}

TEST_F(ChatTemplateFiles, only_a_tool_template_needs_tools) {
  write("tokenizer_config.json",
        R"({"chat_template": [{"name": "tool_use", "template": "tools"}]})");
  EXPECT_EQ(render(/*with_tools=*/true), "tools");
  EXPECT_EQ(render(),
            "error: this model's only chat template is for requests with tools: send tools");
}

TEST_F(ChatTemplateFiles, errors_name_the_file_and_the_way_out) {
  EXPECT_EQ(ChatTemplate::from_directory(folder_, {}).error().code, ErrorCode::kNotFound);
  EXPECT_NE(render().find("--chat-template"), std::string::npos);
  write("tokenizer_config.json", "{\"chat_template\": ");
  EXPECT_EQ(ChatTemplate::from_directory(folder_, {}).error().code, ErrorCode::kDataLoss);
  EXPECT_NE(render().find("tokenizer_config.json"), std::string::npos) << render();
  write("tokenizer_config.json", R"({"chat_template": 7})");
  EXPECT_NE(render().find("must be a text or a list"), std::string::npos) << render();
  write("tokenizer_config.json", R"({"chat_template": [{"name": "default"}]})");
  EXPECT_NE(render().find("each entry"), std::string::npos) << render();
  write("chat_template.jinja", "{% if %}");
  EXPECT_EQ(ChatTemplate::from_directory(folder_, {}).error().code, ErrorCode::kDataLoss);
  EXPECT_NE(render().find("line 1, column 7"), std::string::npos) << render();
}

std::string render(const std::string& source, const ChatInput& input,
                   ChatTemplate::SpecialTokens tokens = {}) {
  const auto prompt = render_golden(source, std::move(tokens), input);
  return prompt ? prompt->text : "error: " + prompt.error().message;
}

json::array messages(std::string_view text) { return parse_json(text)->as_array(); }

TEST(ChatMessages, arguments_of_tool_calls_become_objects) {
  const std::string source =
      "{{ messages[0].tool_calls[0].function.arguments|tojson }}{{ messages[0].content|tojson }}";
  ChatInput input;
  input.messages = messages(
      R"([{"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": "{\"b\": 1, \"a\": [2]}"}}]}])");
  EXPECT_EQ(render(source, input), R"({"b": 1, "a": [2]}"")");
  input.messages = messages(
      R"([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": ""}}]}])");
  EXPECT_EQ(render(source, input), R"({}"")");
  input.messages =
      messages(R"([{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}])");
  EXPECT_EQ(render(source, input), R"({}"")");
  input.messages = messages(
      R"([{"role": "assistant", "content": "c", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]}])");
  EXPECT_EQ(render(source, input), R"({"x": 1}"c")");
  input.messages = messages(
      R"([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{broken"}}]}])");
  EXPECT_NE(render(source, input)
                .find("error: messages[0].tool_calls[0].function.arguments must be JSON text"),
            std::string::npos)
      << render(source, input);
  input.openai_messages = false;
  EXPECT_EQ(render(source, input).find("error: "), 0u);  // no content key then
  EXPECT_EQ(render("{{ messages[0].tool_calls[0].function.arguments|tojson }}", input),
            R"("{broken")");
}

TEST(ChatMessages, null_keys_and_empty_tool_calls_are_dropped) {
  ChatInput input;
  input.messages = messages(
      R"([{"role": "user", "content": "u", "name": null}, {"role": "assistant", "content": "a", "tool_calls": []}])");
  EXPECT_EQ(render("{{ messages }}", input),
            "[{'role': 'user', 'content': 'u'}, {'role': 'assistant', 'content': 'a'}]");
}

TEST(ChatMessages, a_message_that_is_no_object_is_refused) {
  ChatInput input;
  input.messages = {json::value("hi")};
  EXPECT_EQ(render("x", input), "error: messages[0] must be an object with role and content");
}

TEST(ChatVariables, kwargs_override_special_tokens_but_not_the_requests_own_fields) {
  ChatInput input;
  input.kwargs = {{"bos_token", "<K>"}, {"enable_thinking", false}};
  EXPECT_EQ(render("{{ bos_token }}{{ eos_token }}{{ enable_thinking }}", input,
                   {{"bos_token", "<s>"}, {"eos_token", "</s>"}}),
            "<K></s>False");
  for (const char* name : {"messages", "tools", "documents", "add_generation_prompt"}) {
    input.kwargs = {{name, "x"}};
    EXPECT_NE(render("", input).find(std::string("cannot set '") + name), std::string::npos)
        << name;
  }
}

TEST(ChatVariables, absent_tools_and_documents_are_none) {
  EXPECT_EQ(render("{{ tools is none }}{{ documents is none }}{{ tools is defined }}", ChatInput{}),
            "TrueTrueTrue");
}

TEST(ChatVariables, uses_tools_tells_whether_the_template_reads_them) {
  const auto uses = [](const char* source) {
    return ChatTemplate::parse(source, {})->uses_tools();
  };
  EXPECT_TRUE(uses("{% if tools %}x{% endif %}"));
  EXPECT_TRUE(uses("{% macro m() %}{{ tools|tojson }}{% endmacro %}"));
  EXPECT_FALSE(uses("{{ messages[0].tools }}{{ 'tools' }}{{ builtin_tools }} tools"));
  EXPECT_FALSE(uses("{% set tools = 1 %}"));
}

TEST(ContinueFinalMessage, cuts_after_the_content_and_adds_no_generation_prompt) {
  const std::string source =
      "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}{% if "
      "add_generation_prompt %}<assistant>{% endif %}";
  ChatInput input;
  input.messages = messages(
      R"([{"role": "user", "content": "q"}, {"role": "assistant", "content": "The answer is "}])");
  input.continue_final_message = true;
  EXPECT_EQ(render(source, input), "<user>q</><assistant>The answer is ");
}

TEST(ContinueFinalMessage, strips_blanks_where_the_template_trims) {
  ChatInput input;
  input.messages = messages(R"([{"role": "assistant", "content": "The answer is \n"}])");
  input.continue_final_message = true;
  EXPECT_EQ(render("{% for m in messages %}{{ m.content|trim }}</>{% endfor %}", input),
            "The answer is");
}

TEST(ContinueFinalMessage, continues_the_last_text_part) {
  ChatInput input;
  input.messages = messages(
      R"([{"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}])");
  input.continue_final_message = true;
  EXPECT_EQ(render("{% for p in messages[0].content %}{{ p.text }}|{% endfor %}", input), "a|b");
}

TEST(ContinueFinalMessage, needs_text_that_the_template_shows) {
  ChatInput input;
  input.continue_final_message = true;
  EXPECT_NE(render("x", input).find("needs a last message with text"), std::string::npos);
  input.messages = messages(R"([{"role": "user", "content": null}])");
  EXPECT_NE(render("x", input).find("needs a last message with text"), std::string::npos);
  input.messages = messages(R"([{"role": "assistant", "content": "a"}])");
  EXPECT_NE(render("x", input).find("cannot be continued"), std::string::npos);
}

}  // namespace
}  // namespace donar::text
