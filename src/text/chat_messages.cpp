// Preparing messages; the rules are those of Transformers' apply_chat_template and, for tool calls,
// of OpenAI-compatible servers.
#include "text/chat_messages.h"

#include <string>
#include <string_view>

namespace donar::text {
namespace {

const json::value* find_string(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_string() ? value : nullptr;
}

bool has_role(const json::object& message, std::string_view role) {
  const json::value* value = find_string(message, "role");
  return value != nullptr && std::string_view(value->get_string()) == role;
}

Result<void> parse_arguments(json::object& message, size_t message_index) {
  json::value* calls = message.if_contains("tool_calls");
  if (calls == nullptr || !calls->is_array()) return {};
  size_t index = 0;
  for (json::value& call : calls->get_array()) {
    const size_t call_index = index++;
    json::value* function = call.is_object() ? call.get_object().if_contains("function") : nullptr;
    if (function == nullptr || !function->is_object()) continue;
    json::value& arguments = function->get_object()["arguments"];
    if (arguments.is_null() || (arguments.is_string() && arguments.get_string().empty())) {
      arguments = json::object();
      continue;
    }
    if (!arguments.is_string()) continue;
    const std::string text(arguments.get_string());
    Result<json::value> parsed = parse_json(text);
    if (!parsed) {
      Error error{
          ErrorCode::kInvalidArgument,
          fmt::format("messages[{}].tool_calls[{}].function.arguments must be JSON text: {}",
                      message_index, call_index, parsed.error().message),
          "messages"};
      return tl::unexpected<Error>(std::move(error));
    }
    arguments = *std::move(parsed);
  }
  return {};
}

void copy_reasoning(json::object& message) {
  for (const std::string_view name : {"reasoning_content", "thinking", "reasoning"}) {
    const json::value* found = message.if_contains(name);
    if (found == nullptr) continue;
    const json::value reasoning = *found;
    if (message.if_contains("reasoning_content") == nullptr)
      message["reasoning_content"] = reasoning;
    if (message.if_contains("thinking") == nullptr) message["thinking"] = reasoning;
    return;
  }
}

}  // namespace

Result<json::array> prepare_messages(const json::array& messages, bool openai) {
  json::array out;
  out.reserve(messages.size());
  for (size_t i = 0; i < messages.size(); ++i) {
    if (!messages[i].is_object()) {
      return tl::unexpected<Error>(Error{
          ErrorCode::kInvalidArgument,
          fmt::format("messages[{}] must be an object with role and content", i), "messages"});
    }
    json::object message;
    for (const auto& member : messages[i].get_object()) {
      const bool empty_calls = openai && member.key() == "tool_calls" &&
                               member.value().is_array() && member.value().get_array().empty();
      if (!member.value().is_null() && !empty_calls) message.emplace(member.key(), member.value());
    }
    if (openai) {
      if (has_role(message, "assistant") && message.if_contains("content") == nullptr)
        message["content"] = "";
      if (Result<void> parsed = parse_arguments(message, i); !parsed) return forward_error(parsed);
    }
    copy_reasoning(message);
    out.push_back(std::move(message));
  }
  return out;
}

Result<void> mark_end_of_last_message(json::array& messages, std::string_view marker) {
  const auto no_text = [] {
    return tl::unexpected<Error>(
        Error{ErrorCode::kInvalidArgument,
              "continue_final_message needs a last message with text to continue", "messages"});
  };
  json::value* content =
      messages.empty() ? nullptr : messages.back().get_object().if_contains("content");
  if (content == nullptr) return no_text();
  if (content->is_array()) {  // parts: the last one with text
    json::array& parts = content->get_array();
    content = nullptr;
    for (size_t i = parts.size(); i > 0 && content == nullptr; --i) {
      if (parts[i - 1].is_object()) content = parts[i - 1].get_object().if_contains("text");
    }
    if (content == nullptr) return no_text();
  }
  if (!content->is_string()) return no_text();
  content->get_string().append(marker);
  return {};
}

}  // namespace donar::text
