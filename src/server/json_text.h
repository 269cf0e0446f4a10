// JSON values as text, the way Python's clients and servers print them: 0.5 and not 5E-1, never
// NaN.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"

namespace donar::server {

std::string to_json_text(const json::value& value);
std::string to_json_text(const json::object& object);
void append_json_text(std::string& out, const json::value& value);
void append_json_text(std::string& out, const json::object& object);
void append_json_string(std::string& out, std::string_view text);  // UTF-8 passes as it is

}  // namespace donar::server
