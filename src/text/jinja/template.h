// The engine's boundary: a parsed template that renders variables to Text. Inside exceptions end a
// render; outside there are Results.
#pragma once

#include <memory>
#include <string_view>

#include "base/error.h"
#include "text/jinja/budget.h"
#include "text/jinja/interpreter.h"

namespace donar::text::jinja {

// Const after construction, thread-safe.
class Template {
 public:
  // kDataLoss with line and column.
  static Result<Template> parse(std::string_view source);
  // kInvalidArgument with the template's line for its own errors and for every limit.
  Result<Text> render(const Variables& variables, const Clock& clock,
                      const Limits& limits = {}) const;
  bool reads(std::string_view variable) const;

 private:
  explicit Template(std::unique_ptr<const Ast> ast) : ast_(std::move(ast)) {}
  std::unique_ptr<const Ast> ast_;
};

}  // namespace donar::text::jinja
