// The content of messages as clients send it -> as chat templates expect it.
#pragma once

#include <string_view>

#include "base/error.h"
#include "base/json.h"

namespace donar::server {

enum class ContentFormat {
  kString,  // content is one string; text parts are joined with a line break
  kOpenAi,  // the template walks through a list of {"type": "text", "text": ...}
};

// What a template's source expects: kOpenAi if it loops over a message's content.
ContentFormat detect_content_format(std::string_view template_source);

// Content parts become text in the template's format. `knows_developer`: the template has a role of
// that name; else it is "system". Everything else about messages is ChatTemplate::render's.
Result<json::array> normalize_messages(const json::array& messages, ContentFormat format,
                                       bool knows_developer);

}  // namespace donar::server
