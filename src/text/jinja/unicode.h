// Code points of UTF-8 text, with Python's idea of blanks, case and printable characters. Malformed
// bytes count as one code point each.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace donar::text::jinja {

struct CodePoint {
  char32_t value;  // U+FFFD for a malformed byte
  size_t bytes;    // at least 1
};

CodePoint decode_at(std::string_view text, size_t position);
void append_utf8(std::string& out, char32_t code_point);

size_t count_code_points(std::string_view text);
// Byte offset of code point number `index`; the size of the text beyond the end.
size_t byte_offset(std::string_view text, size_t index);

bool is_space(char32_t code_point);       // str.isspace, \s
bool is_line_break(char32_t code_point);  // where str.splitlines splits
bool is_printable(char32_t code_point);   // str.isprintable
bool is_alphabetic(char32_t code_point);
bool is_decimal(char32_t code_point);
bool is_upper(char32_t code_point);
bool is_lower(char32_t code_point);

std::string upper(char32_t code_point);
std::string lower(char32_t code_point);
std::string title(char32_t code_point);

size_t skip_space(std::string_view text, size_t position);  // first position that is no blank
size_t trimmed_end(std::string_view text,
                   size_t begin = 0);  // end of the text without trailing blanks

}  // namespace donar::text::jinja
