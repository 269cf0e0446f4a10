// Where a model directory keeps its chat templates.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/error.h"

namespace donar::text {

struct ChatTemplateSources {
  std::optional<std::string> general;   // for every request, unless:
  std::optional<std::string> tool_use;  // for requests with tools
};

// chat_template.jinja before tokenizer_config.json before chat_template.json;
// additional_chat_templates/ adds named ones. Both may be missing in the result. kDataLoss with the
// path for malformed files.
Result<ChatTemplateSources> find_chat_templates(const std::filesystem::path& directory);

}  // namespace donar::text
