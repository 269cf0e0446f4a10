// Expressions: a switch over the kinds, one function each, so that the frame of evaluate() stays
// small in deep recursion.
#include <algorithm>

#include "text/jinja/filters.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"

namespace donar::text::jinja {

Value Interpreter::evaluate(const Expr& expr, const ScopePtr& scope) {
  const Budget::Nest nest(budget_);
  budget_.step();
  switch (expr.kind) {
    case ExprKind::kConstant:
      return static_cast<const Constant&>(expr).value;
    case ExprKind::kName:
      return evaluate_name(static_cast<const Name&>(expr), *scope);
    case ExprKind::kList:
    case ExprKind::kTuple:
      return evaluate_list(static_cast<const ListLiteral&>(expr), scope);
    case ExprKind::kDict:
      return evaluate_dict(static_cast<const DictLiteral&>(expr), scope);
    case ExprKind::kUnary:
      return evaluate_unary(static_cast<const Unary&>(expr), scope);
    case ExprKind::kBinary:
    case ExprKind::kAnd:
    case ExprKind::kOr:
      return evaluate_binary(static_cast<const Binary&>(expr), scope);
    case ExprKind::kConcat:
      return evaluate_concat(static_cast<const Concat&>(expr), scope);
    case ExprKind::kCompare:
      return evaluate_compare(static_cast<const Compare&>(expr), scope);
    case ExprKind::kConditional:
      return evaluate_conditional(static_cast<const Conditional&>(expr), scope);
    case ExprKind::kAttribute: {
      const auto& node = static_cast<const Attribute&>(expr);
      const Value object = evaluate(*node.object, scope);
      here_ = node.place;
      return attribute(object, node.name);
    }
    case ExprKind::kItem: {
      const auto& node = static_cast<const Item&>(expr);
      const Value object = evaluate(*node.object, scope);
      const Value index = evaluate(*node.index, scope);
      here_ = node.place;
      return item(object, index);
    }
    case ExprKind::kSlice:
      return evaluate_slice(static_cast<const Slice&>(expr), scope);
    case ExprKind::kCall:
      return evaluate_call(static_cast<const Call&>(expr), scope, std::nullopt);
    case ExprKind::kFilter:
      return evaluate_filter(static_cast<const Apply&>(expr), scope, nullptr);
    case ExprKind::kTest:
      return evaluate_test(static_cast<const Apply&>(expr), scope);
    case ExprKind::kNamespaceRef:
      break;  // a target, never a value
  }
  return Value();
}

Value Interpreter::evaluate_name(const Name& node, const Scope& scope) const {
  const Value* found = scope.find(node.symbol);
  return found ? *found
               : Value::undefined(fmt::format("'{}' is undefined", ast_.symbols[node.symbol]));
}

Value Interpreter::evaluate_list(const ListLiteral& node, const ScopePtr& scope) {
  std::vector<Value> items;
  items.reserve(node.items.size());
  for (const ExprPtr& item : node.items) items.push_back(evaluate(*item, scope));
  budget_.allocate(items.size() * sizeof(Value));
  here_ = node.place;
  return node.kind == ExprKind::kTuple ? Value::tuple(std::move(items))
                                       : Value::list(std::move(items));
}

Value Interpreter::evaluate_dict(const DictLiteral& node, const ScopePtr& scope) {
  Dict dict;
  for (const auto& [key, value] : node.items) {
    Value evaluated = evaluate(*key, scope);
    dict.set(std::move(evaluated), evaluate(*value, scope));
  }
  budget_.allocate(dict.entries.size() * 4 * sizeof(Value));
  here_ = node.place;
  return Value::dict(std::move(dict));
}

Value Interpreter::evaluate_unary(const Unary& node, const ScopePtr& scope) {
  const Value operand = evaluate(*node.operand, scope);
  if (node.op == UnaryOp::kNot) return Value::boolean(!truth(operand));
  here_ = node.place;
  return node.op == UnaryOp::kMinus ? negate(operand) : plus(operand);
}

Value Interpreter::evaluate_binary(const Binary& node, const ScopePtr& scope) {
  Value left = evaluate(*node.left, scope);
  if (node.kind == ExprKind::kAnd) return truth(left) ? evaluate(*node.right, scope) : left;
  if (node.kind == ExprKind::kOr) return truth(left) ? left : evaluate(*node.right, scope);
  const Value right = evaluate(*node.right, scope);
  here_ = node.place;
  return binary_operation(node.op, left, right, budget_);
}

Value Interpreter::evaluate_concat(const Concat& node, const ScopePtr& scope) {
  Text out;
  for (const ExprPtr& part : node.parts) append_str(out, evaluate(*part, scope), budget_);
  here_ = node.place;
  budget_.text(out.size());
  return Value::string(std::move(out));
}

Value Interpreter::evaluate_compare(const Compare& node, const ScopePtr& scope) {
  Value left = evaluate(*node.first, scope);
  for (const auto& [op, expr] : node.rest) {
    Value right = evaluate(*expr, scope);
    here_ = node.place;
    if (!compare(op, left, right, budget_)) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

Value Interpreter::evaluate_conditional(const Conditional& node, const ScopePtr& scope) {
  if (truth(evaluate(*node.condition, scope))) return evaluate(*node.then, scope);
  return node.otherwise ? evaluate(*node.otherwise, scope)
                        : Value::undefined("an 'if' expression without 'else' was false");
}

Value Interpreter::evaluate_slice(const Slice& node, const ScopePtr& scope) {
  const Value object = evaluate(*node.object, scope);
  const auto part = [&](const ExprPtr& expr) {
    return expr ? evaluate(*expr, scope) : Value::none();
  };
  const Value start = part(node.start);
  const Value stop = part(node.stop);
  const Value step = part(node.step);
  here_ = node.place;
  return slice(object, &start, &stop, &step, budget_);
}

Args Interpreter::evaluate_args(const CallArgs& args, const ScopePtr& scope) {
  Args out;
  for (const ExprPtr& arg : args.positional) out.positional.push_back(evaluate(*arg, scope));
  if (args.star) {
    for (Value& item : iterate(evaluate(*args.star, scope), budget_))
      out.positional.push_back(std::move(item));
  }
  const auto add_named = [&](const std::string& name, Value value) {
    const auto doubled = std::find_if(out.named.begin(), out.named.end(),
                                      [&](const auto& entry) { return entry.first == name; });
    if (doubled != out.named.end()) raise("two values for the argument '{}'", name);
    out.named.emplace_back(name, std::move(value));
  };
  for (const auto& [name, arg] : args.named) add_named(name, evaluate(*arg, scope));
  if (args.double_star) {
    const Value rest = evaluate(*args.double_star, scope);
    if (!rest.is(Kind::kDict)) raise("** needs a dict, not {}", rest.type_name());
    budget_.step(rest.as_dict().entries.size() * (1 + rest.as_dict().entries.size() / 64));
    for (const auto& [key, value] : rest.as_dict().entries) {
      if (!key.is(Kind::kString)) raise("** needs strings as keys");
      add_named(key.text().bytes(), value);
    }
  }
  return out;
}

Value Interpreter::evaluate_call(const Call& node, const ScopePtr& scope,
                                 std::optional<Value> caller) {
  if (node.callee->kind == ExprKind::kAttribute) {
    const auto& access = static_cast<const Attribute&>(*node.callee);
    const Value object = evaluate(*access.object, scope);
    if (method_kind(object, access.name) == MethodKind::kCallable) {
      Args args = evaluate_args(node.args, scope);
      here_ = access.place;
      return call_method(*this, object, access.name, args);
    }
    here_ = access.place;
    const Value callee = attribute(object, access.name);
    Args args = evaluate_args(node.args, scope);
    if (caller) args.named.emplace_back("caller", *std::move(caller));
    here_ = node.place;
    return call(callee, args);
  }
  const Value callee = evaluate(*node.callee, scope);
  Args args = evaluate_args(node.args, scope);
  if (caller) args.named.emplace_back("caller", *std::move(caller));
  here_ = node.place;
  return call(callee, args);
}

Value Interpreter::evaluate_filter(const Apply& node, const ScopePtr& scope,
                                   const Value* block_text) {
  Value operand;
  if (!node.operand) {
    operand = *block_text;
  } else if (block_text && node.operand->kind == ExprKind::kFilter) {
    operand = evaluate_filter(static_cast<const Apply&>(*node.operand), scope, block_text);
  } else {
    operand = evaluate(*node.operand, scope);
  }
  Args args = evaluate_args(node.args, scope);
  here_ = node.place;
  return call_filter(*this, node.name, operand, args);
}

Value Interpreter::evaluate_test(const Apply& node, const ScopePtr& scope) {
  const Value operand = evaluate(*node.operand, scope);
  Args args = evaluate_args(node.args, scope);
  here_ = node.place;
  return Value::boolean(call_test(*this, node.name, operand, args));
}

Value Interpreter::attribute(const Value& object, std::string_view name) {
  if (object.is(Kind::kUndefined))
    raise("{} (its attribute '{}' was asked for)", object.undefined_reason(), name);
  switch (method_kind(object, name)) {
    case MethodKind::kCallable:
      return make<BoundMethod>(object, std::string(name));
    case MethodKind::kForbidden:
      return Value::undefined(
          fmt::format("'{}' of a {} is not allowed in a template: values cannot be changed", name,
                      object.type_name()));
    case MethodKind::kNone:
      break;
  }
  if (object.is(Kind::kDict)) {
    if (const Value* found = object.as_dict().find(name)) return *found;
  }
  if (object.is(Kind::kObject) && !name.starts_with('_'))
    return object.as_object()->attribute(name);
  return Value::undefined(fmt::format("this {} has no attribute '{}'", object.type_name(), name));
}

Value Interpreter::item(const Value& object, const Value& index) {
  if (object.is(Kind::kUndefined)) {
    raise("{} (its item {} was asked for)", object.undefined_reason(),
          index.is(Kind::kString) ? std::string(index.view()) : std::string(index.type_name()));
  }
  Value found = jinja::item(object, index, budget_);
  if (found.is(Kind::kUndefined) && index.is(Kind::kString)) return attribute(object, index.view());
  return found;
}

Value Interpreter::call(const Value& callee, Args& args) {
  const Budget::Nest nest(budget_);
  budget_.step();
  if (callee.is(Kind::kUndefined)) raise("{}", callee.undefined_reason());
  if (!callee.is(Kind::kObject) || !callee.as_object()->callable())
    raise("a {} cannot be called", callee.type_name());
  return callee.as_object()->call(*this, args);
}

}  // namespace donar::text::jinja
