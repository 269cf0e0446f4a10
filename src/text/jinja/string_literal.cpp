// Python's "unicode-escape" for literals. A backslash before any other character stays.
#include "text/jinja/string_literal.h"

#include <cstdint>

#include "text/jinja/unicode.h"

namespace donar::text::jinja {
namespace {

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if ((c | 32) >= 'a' && (c | 32) <= 'f') return (c | 32) - 'a' + 10;
  return -1;
}

bool read_hex(std::string_view text, size_t from, size_t count, char32_t& value) {
  if (from + count > text.size()) return false;
  value = 0;
  for (size_t i = from; i < from + count; ++i) {
    if (hex_value(text[i]) < 0) return false;
    value = value * 16 + static_cast<char32_t>(hex_value(text[i]));
  }
  return value <= 0x10FFFF;
}

char simple_escape(char c) {
  switch (c) {
    case 'n':
      return '\n';
    case 't':
      return '\t';
    case 'r':
      return '\r';
    case 'a':
      return '\a';
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'v':
      return '\v';
    case '\\':
    case '\'':
    case '"':
      return c;
    default:
      return '\0';
  }
}

}  // namespace

bool unescape_string_literal(std::string_view literal, std::string& out) {
  out.reserve(literal.size());
  for (size_t i = 0; i < literal.size();) {
    if (literal[i] != '\\' || i + 1 >= literal.size()) {
      out += literal[i++];
      continue;
    }
    const char c = literal[i + 1];
    i += 2;
    if (c == '\n') continue;  // a line joined to the next
    if (const char simple = simple_escape(c)) {
      out += simple;
    } else if (c >= '0' && c <= '7') {
      char32_t value = static_cast<char32_t>(c - '0');
      for (int digits = 1;
           digits < 3 && i < literal.size() && literal[i] >= '0' && literal[i] <= '7'; ++digits) {
        value = value * 8 + static_cast<char32_t>(literal[i++] - '0');
      }
      append_utf8(out, value);
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const size_t count = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      char32_t value = 0;
      if (!read_hex(literal, i, count, value)) return false;
      i += count;
      char32_t low = 0;
      if (value >= 0xD800 && value < 0xDC00 && literal.substr(i, 2) == "\\u" &&
          read_hex(literal, i + 2, 4, low) && low >= 0xDC00 && low < 0xE000) {
        value = 0x10000 + ((value - 0xD800) << 10) + (low - 0xDC00);
        i += 6;
      }
      append_utf8(out, value);
    } else if (c == 'N') {
      return false;
    } else {
      out += '\\';
      out += c;
    }
  }
  return true;
}

}  // namespace donar::text::jinja
