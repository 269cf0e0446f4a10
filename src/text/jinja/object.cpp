// The small objects; macros and loops are in interpreter files because they run template code.
#include "text/jinja/object.h"

#include "text/jinja/arguments.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/methods.h"
#include "text/jinja/print.h"

namespace donar::text::jinja {

Value Object::attribute(std::string_view name) {
  return Value::undefined(fmt::format("a {} has no attribute '{}'", type_name(), name));
}

Value Object::call(Interpreter&, Args&) { raise("a {} cannot be called", type_name()); }

void Object::append_repr(Text& out, Budget&) const {
  out.append(fmt::format("<{}>", type_name()), false);
}

Value Namespace::attribute(std::string_view name) {
  for (const auto& [key, value] : attributes_) {
    if (key == name) return value;
  }
  return Object::attribute(name);
}

void Namespace::set(std::string_view name, Value value, Budget& budget) {
  if (!name.empty() && name[0] == '_')
    raise("a namespace cannot store '{}': rename it without the leading underscore", name);
  for (auto& [key, old] : attributes_) {
    budget.step();
    if (key != name) continue;
    old = std::move(value);
    return;
  }
  attributes_.emplace_back(std::string(name), std::move(value));
}

void Namespace::append_repr(Text& out, Budget& budget) const {
  out.append("<Namespace {", false);
  bool first = true;
  for (const auto& [key, value] : attributes_) {
    if (!first) out.append(", ", false);
    first = false;
    jinja::append_repr(out, Value::string(key), budget);
    out.append(": ", false);
    jinja::append_repr(out, value, budget);
  }
  out.append("}>", false);
}

Value Object::call_method(Interpreter&, std::string_view name, Args&) {
  raise("a {} has no method '{}'", type_name(), name);
}

Value Cycler::call_method(Interpreter&, std::string_view name, Args& args) {
  Arguments(name, args, {});
  if (name == "reset") {
    position_ = 0;
    return Value::none();
  }
  Value item = items_[position_];
  position_ = (position_ + 1) % items_.size();
  return item;
}

Value Cycler::attribute(std::string_view name) {
  if (name == "current") return items_[position_];
  return Object::attribute(name);
}

Value Joiner::call(Interpreter&, Args& args) {
  Arguments("joiner", args, {});
  if (used_) return separator_;
  used_ = true;
  return Value::string("");
}

void Function::append_repr(Text& out, Budget&) const {
  out.append(fmt::format("<function {}>", name_), false);
}

Value BoundMethod::call(Interpreter& interpreter, Args& args) {
  return jinja::call_method(interpreter, self_, name_, args);
}

void BoundMethod::append_repr(Text& out, Budget&) const {
  out.append(fmt::format("<built-in method {} of {} object>", name_, self_.type_name()), false);
}

}  // namespace donar::text::jinja
