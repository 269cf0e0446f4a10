// Content parts to text, and what a template loops over.
#include "server/message_content.h"

#include <string>
#include <vector>

namespace donar::server {
namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

// "for x in message.content | filter": the expression between "in" and the tag's end, without
// filters.
std::string_view loop_source(std::string_view tag) {
  tag = trimmed(tag);
  if (!tag.starts_with("for ")) return {};
  const size_t in = tag.find(" in ");
  if (in == std::string_view::npos) return {};
  std::string_view source = tag.substr(in + 4);
  source = source.substr(0, source.find('|'));
  source = source.substr(0, source.find(" if "));
  return trimmed(source);
}

Error bad_message(size_t index, std::string message) {
  return Error{ErrorCode::kInvalidArgument, fmt::format("messages[{}]: {}", index, message),
               "messages"};
}

const json::string* text_of(const json::object& part) {
  for (const char* name : {"text", "refusal", "thinking"})
    if (const json::value* value = part.if_contains(name); value != nullptr && value->is_string())
      return &value->get_string();
  return nullptr;
}

// The texts of a content list, or why it cannot be taken.
Result<std::vector<json::string>> text_parts(const json::array& parts, size_t index) {
  std::vector<json::string> texts;
  for (const json::value& part : parts) {
    if (part.is_string()) {
      texts.push_back(part.get_string());
      continue;
    }
    const json::object* object = part.if_object();
    const json::value* type = object == nullptr ? nullptr : object->if_contains("type");
    if (type == nullptr || !type->is_string())
      return tl::unexpected<Error>(
          bad_message(index, "a content part needs a string field \"type\""));
    const std::string_view name = type->get_string();
    if (name == "text" || name == "input_text" || name == "output_text" || name == "refusal" ||
        name == "thinking") {
      const json::string* text = text_of(*object);
      if (text == nullptr)
        return tl::unexpected<Error>(
            bad_message(index, fmt::format("the {} part has no text", name)));
      texts.push_back(*text);
    } else {
      return tl::unexpected<Error>(bad_message(
          index,
          fmt::format("content parts of type \"{}\" are not supported: this model reads text only",
                      name.substr(0, 40))));
    }
  }
  return texts;
}

Result<json::value> normalize_content(const json::value& content, ContentFormat format,
                                      size_t index) {
  std::vector<json::string> texts;
  if (content.is_string()) {
    if (format == ContentFormat::kString) return content;
    texts.push_back(content.get_string());
  } else if (content.is_array()) {
    auto parts = text_parts(content.get_array(), index);
    if (!parts) return forward_error(parts);
    texts = std::move(*parts);
  } else {
    return tl::unexpected<Error>(bad_message(index, "content must be a string or a list of parts"));
  }
  if (format == ContentFormat::kOpenAi) {
    json::array list;
    for (json::string& text : texts) list.push_back(json::object{{"type", "text"}, {"text", text}});
    return json::value(std::move(list));
  }
  json::string joined;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (i > 0) joined.append("\n");
    joined.append(texts[i]);
  }
  return json::value(std::move(joined));
}

}  // namespace

ContentFormat detect_content_format(std::string_view source) {
  size_t at = 0;
  while ((at = source.find("{%", at)) != std::string_view::npos) {
    size_t begin = at + 2;
    const size_t end = source.find("%}", begin);
    if (end == std::string_view::npos) break;
    std::string_view tag = source.substr(begin, end - begin);
    at = end + 2;
    if (!tag.empty() && (tag.front() == '-' || tag.front() == '+')) tag.remove_prefix(1);
    if (!tag.empty() && (tag.back() == '-' || tag.back() == '+')) tag.remove_suffix(1);
    const std::string_view loop = loop_source(tag);
    if (loop == "content" || loop.ends_with(".content") || loop.ends_with("['content']") ||
        loop.ends_with("[\"content\"]"))
      return ContentFormat::kOpenAi;
  }
  return ContentFormat::kString;
}

Result<json::array> normalize_messages(const json::array& messages, ContentFormat format,
                                       bool knows_developer) {
  json::array out;
  for (size_t i = 0; i < messages.size(); ++i) {
    const json::object* message = messages[i].if_object();
    if (message == nullptr)
      return tl::unexpected<Error>(bad_message(i, "a message must be an object"));
    const json::value* role = message->if_contains("role");
    if (role == nullptr || !role->is_string())
      return tl::unexpected<Error>(bad_message(i, "a message needs a string field \"role\""));
    json::object copy = *message;
    if (json::value* content = copy.if_contains("content");
        content != nullptr && !content->is_null()) {
      auto normalized = normalize_content(*content, format, i);
      if (!normalized) return forward_error(normalized);
      *content = std::move(*normalized);
    }
    if (role->get_string() == "developer" && !knows_developer) copy["role"] = "system";
    out.push_back(std::move(copy));
  }
  return out;
}

}  // namespace donar::server
