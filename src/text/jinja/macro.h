// A macro, or the body of a call block: template code that is called like a function and gives its
// text.
#pragma once

#include <string_view>

#include "text/jinja/interpreter.h"

namespace donar::text::jinja {

class MacroObject : public Object {
 public:
  MacroObject(const Macro& node, ScopePtr closure) : node_(node), closure_(std::move(closure)) {}
  std::string_view type_name() const override { return "Macro"; }
  Value attribute(std::string_view name) override;
  bool callable() const override { return true; }
  Value call(Interpreter& interpreter, Args& args) override;
  void append_repr(Text& out, Budget& budget) const override;

 private:
  void bind(Interpreter& interpreter, Args& args, const ScopePtr& scope) const;

  const Macro& node_;
  ScopePtr closure_;
};

}  // namespace donar::text::jinja
