// Template text to tokens, with Jinja's rules for blanks around tags (trim_blocks and lstrip_blocks
// on, one final newline dropped).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace donar::text::jinja {

enum class TokenKind : uint8_t {
  kData,           // text between tags
  kBlockBegin,     // {%
  kBlockEnd,       // %}
  kVariableBegin,  // {{
  kVariableEnd,    // }}
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  std::string text;   // the name, the operator, the digits, the unescaped string or the data
  uint32_t line = 0;  // from 1
  uint32_t column = 0;
};

// Raises TemplateError with its place. The last token is kEnd.
std::vector<Token> tokenize(std::string_view source);

}  // namespace donar::text::jinja
