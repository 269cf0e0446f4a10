// Tokens to the syntax tree: Jinja's grammar with loop controls and Transformers' generation tag.
#pragma once

#include <string_view>

#include "text/jinja/ast.h"

namespace donar::text::jinja {

// Raises TemplateError with line and column.
Ast parse_template(std::string_view source);

}  // namespace donar::text::jinja
