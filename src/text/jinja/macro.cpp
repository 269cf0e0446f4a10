// Calls of macros: positional and named arguments, defaults, varargs, kwargs and caller, by Jinja's
// rules.
#include "text/jinja/macro.h"

#include <algorithm>

namespace donar::text::jinja {

Value MacroObject::attribute(std::string_view name) {
  if (name == "name") return Value::string(node_.name);
  if (name == "catch_kwargs") return Value::boolean(node_.signature.uses_kwargs);
  if (name == "catch_varargs") return Value::boolean(node_.signature.uses_varargs);
  if (name == "caller") return Value::boolean(node_.signature.uses_caller);
  if (name == "arguments") {
    std::vector<Value> names;
    for (const auto& [symbol, parameter] : node_.signature.parameters)
      names.push_back(Value::string(parameter));
    return Value::tuple(std::move(names));
  }
  return Object::attribute(name);
}

void MacroObject::append_repr(Text& out, Budget&) const {
  out.append(fmt::format("<Macro '{}'>", node_.name), false);
}

void MacroObject::bind(Interpreter& run, Args& args, const ScopePtr& scope) const {
  const Signature& signature = node_.signature;
  const size_t count = signature.parameters.size();
  const auto take_named = [&](std::string_view name) -> std::optional<Value> {
    const auto found = std::find_if(args.named.begin(), args.named.end(),
                                    [&](const auto& entry) { return entry.first == name; });
    if (found == args.named.end()) return std::nullopt;
    Value value = std::move(found->second);
    args.named.erase(found);
    return value;
  };
  for (size_t i = 0; i < count; ++i) {
    const auto& [symbol, name] = signature.parameters[i];
    if (i < args.positional.size()) {
      scope->assign(symbol, args.positional[i]);
    } else if (auto value = take_named(name)) {
      scope->assign(symbol, *std::move(value));
    } else if (i + signature.defaults.size() >= count) {
      scope->assign(
          symbol, run.evaluate(*signature.defaults[i + signature.defaults.size() - count], scope));
    } else {
      scope->assign(
          symbol, Value::undefined(fmt::format("the parameter '{}' of the macro '{}' was not given",
                                               name, node_.name)));
    }
  }
  const auto assign_special = [&](std::string_view name, Value value) {
    const auto found = std::find(run.ast_.symbols.begin(), run.ast_.symbols.end(), name);
    if (found != run.ast_.symbols.end())
      scope->assign(static_cast<Symbol>(found - run.ast_.symbols.begin()), std::move(value));
  };
  const bool own_caller =
      std::any_of(signature.parameters.begin(), signature.parameters.end(),
                  [](const auto& parameter) { return parameter.second == "caller"; });
  if (signature.uses_caller && !own_caller) {
    auto caller = take_named("caller");
    assign_special("caller", caller ? *std::move(caller)
                                    : Value::undefined("no caller is defined: use a call block"));
  }
  if (signature.uses_kwargs) {
    Dict rest;
    for (auto& [name, value] : args.named) rest.set(Value::string(name), std::move(value));
    assign_special("kwargs", Value::dict(std::move(rest)));
  } else if (!args.named.empty()) {
    raise("the macro '{}' has no parameter '{}'", node_.name, args.named[0].first);
  }
  if (signature.uses_varargs) {
    std::vector<Value> rest;
    for (size_t i = count; i < args.positional.size(); ++i) rest.push_back(args.positional[i]);
    assign_special("varargs", Value::tuple(std::move(rest)));
  } else if (args.positional.size() > count) {
    raise("the macro '{}' takes at most {} arguments", node_.name, count);
  }
}

Value MacroObject::call(Interpreter& run, Args& args) {
  const Budget::Nest nest(run.budget());
  const ScopePtr scope = run.open_scope(closure_);
  bind(run, args, scope);
  Text out;
  run.run(node_.body, scope, out);
  run.budget().text(out.size());
  return Value::string(std::move(out));
}

}  // namespace donar::text::jinja
