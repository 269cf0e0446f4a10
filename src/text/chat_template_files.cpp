// Reading chat templates by precedence.
#include "text/chat_template_files.h"

#include <string_view>

#include "base/file.h"
#include "base/json.h"

namespace donar::text {
namespace {

bool present(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

// The key chat_template of a JSON file: a text, or a list of {"name", "template"}.
Result<ChatTemplateSources> read_json_templates(const std::filesystem::path& path) {
  Result<std::string> text = read_text_file(path);
  if (!text) return forward_error(text);
  Result<json::value> parsed = parse_json(*text);
  if (!parsed) return fail(ErrorCode::kDataLoss, "{}: {}", path.string(), parsed.error().message);
  if (!parsed->is_object())
    return fail(ErrorCode::kDataLoss, "{}: expected a JSON object", path.string());
  ChatTemplateSources sources;
  const json::value* value = parsed->get_object().if_contains("chat_template");
  if (value == nullptr || value->is_null()) return sources;
  if (value->is_string()) {
    sources.general = std::string(value->get_string());
    return sources;
  }
  if (!value->is_array())
    return fail(ErrorCode::kDataLoss,
                "{}: chat_template must be a text or a list of named templates", path.string());
  for (const json::value& entry : value->get_array()) {
    const json::value* name = entry.is_object() ? entry.get_object().if_contains("name") : nullptr;
    const json::value* body =
        entry.is_object() ? entry.get_object().if_contains("template") : nullptr;
    if (name == nullptr || body == nullptr || !name->is_string() || !body->is_string()) {
      return fail(ErrorCode::kDataLoss,
                  "{}: each entry of chat_template needs the texts name and template",
                  path.string());
    }
    if (name->get_string() == "default") sources.general = std::string(body->get_string());
    if (name->get_string() == "tool_use") sources.tool_use = std::string(body->get_string());
  }
  return sources;
}

}  // namespace

Result<ChatTemplateSources> find_chat_templates(const std::filesystem::path& directory) {
  ChatTemplateSources sources;
  if (const auto path = directory / "chat_template.jinja"; present(path)) {
    Result<std::string> text = read_text_file(path);
    if (!text) return forward_error(text);
    sources.general = *std::move(text);
  }
  for (const char* name : {"tokenizer_config.json", "chat_template.json"}) {
    const auto path = directory / name;
    if (sources.general || sources.tool_use || !present(path)) continue;
    Result<ChatTemplateSources> found = read_json_templates(path);
    if (!found) return forward_error(found);
    sources = *std::move(found);
  }
  for (const auto& [name, slot] : {std::pair{"default.jinja", &sources.general},
                                   std::pair{"tool_use.jinja", &sources.tool_use}}) {
    const auto path = directory / "additional_chat_templates" / name;
    if (*slot || !present(path)) continue;
    Result<std::string> text = read_text_file(path);
    if (!text) return forward_error(text);
    *slot = *std::move(text);
  }
  return sources;
}

}  // namespace donar::text
