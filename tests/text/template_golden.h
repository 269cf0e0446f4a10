// Reading the golden files of chat templates and rendering their cases.
#pragma once

#include <ctime>
#include <string>

#include "base/file.h"
#include "base/json.h"
#include "text/chat_template.h"

namespace donar::text {

inline json::value read_golden(const std::string& name) {
  const std::string path = std::string(DONAR_TEST_DATA) + "/text/" + name;
  const Result<std::string> text = read_text_file(path);
  if (!text) throw std::runtime_error(text.error().message);
  Result<json::value> value = parse_json(*text);
  if (!value) throw std::runtime_error(path + ": " + value.error().message);
  return *std::move(value);
}

// 2025-06-28 12:34:56, a Saturday
inline std::tm golden_clock() {
  std::tm time{};
  time.tm_year = 125;
  time.tm_mon = 5;
  time.tm_mday = 28;
  time.tm_hour = 12;
  time.tm_min = 34;
  time.tm_sec = 56;
  time.tm_wday = 6;
  time.tm_yday = 178;
  return time;
}

inline ChatTemplate::SpecialTokens golden_tokens(const json::object& tokens) {
  ChatTemplate::SpecialTokens out;
  for (const auto& member : tokens)
    out[std::string(member.key())] = std::string(member.value().as_string());
  return out;
}

// {messages, tools?, kwargs?, add_generation_prompt?, continue_final_message?} as Transformers
// takes them.
inline ChatInput golden_input(const json::object& input) {
  ChatInput out;
  out.openai_messages = false;
  out.messages = input.at("messages").as_array();
  if (const json::value* tools = input.if_contains("tools"); tools && tools->is_array())
    out.tools = tools->get_array();
  if (const json::value* kwargs = input.if_contains("kwargs"); kwargs && kwargs->is_object())
    out.kwargs = kwargs->get_object();
  if (const json::value* flag = input.if_contains("add_generation_prompt"))
    out.add_generation_prompt = flag->as_bool();
  if (const json::value* flag = input.if_contains("continue_final_message"))
    out.continue_final_message = flag->as_bool();
  return out;
}

inline Result<RenderedPrompt> render_golden(const std::string& source,
                                            ChatTemplate::SpecialTokens tokens,
                                            const ChatInput& input) {
  Result<ChatTemplate> parsed = ChatTemplate::parse(source, std::move(tokens));
  if (!parsed) return forward_error(parsed);
  parsed->set_clock(golden_clock);
  return parsed->render(input);
}

}  // namespace donar::text
