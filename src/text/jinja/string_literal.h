// Escapes of string literals in templates: those of Python.
#pragma once

#include <string>
#include <string_view>

namespace donar::text::jinja {

// The text of a literal from between its quotes; false for a malformed \x, \u, \U, or for \N (names
// of characters are not known here).
bool unescape_string_literal(std::string_view literal, std::string& out);

}  // namespace donar::text::jinja
