// Parse and render with errors as values.
#include "text/jinja/template.h"

#include <algorithm>

#include "text/jinja/parser.h"

namespace donar::text::jinja {

Result<Template> Template::parse(std::string_view source) {
  try {
    return Template(std::make_unique<const Ast>(parse_template(source)));
  } catch (const TemplateError& error) {
    return fail(ErrorCode::kDataLoss, "chat template, line {}, column {}: {}", error.line,
                error.column, error.message);
  }
}

Result<Text> Template::render(const Variables& variables, const Clock& clock,
                              const Limits& limits) const {
  Interpreter interpreter(*ast_, limits, clock);
  try {
    return interpreter.render(variables);
  } catch (const TemplateError& error) {
    const Place place = interpreter.here();
    return fail(ErrorCode::kInvalidArgument, "chat template, line {}: {}", place.line,
                error.message);
  }
}

bool Template::reads(std::string_view variable) const {
  const auto found = std::find(ast_->symbols.begin(), ast_->symbols.end(), variable);
  return found != ast_->symbols.end() &&
         ast_->read[static_cast<size_t>(found - ast_->symbols.begin())];
}

}  // namespace donar::text::jinja
