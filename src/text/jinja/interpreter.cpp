// Statements, scopes and assignment.
#include "text/jinja/interpreter.h"

#include <algorithm>

#include "text/jinja/filters.h"
#include "text/jinja/globals.h"
#include "text/jinja/loop.h"
#include "text/jinja/macro.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"

namespace donar::text::jinja {

const Value* Scope::find(Symbol symbol) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->parent.get()) {
    for (const auto& [name, value] : scope->variables) {
      if (name == symbol) return &value;
    }
  }
  return nullptr;
}

void Scope::assign(Symbol symbol, Value value) {
  for (auto& [name, old] : variables) {
    if (name != symbol) continue;
    old = std::move(value);
    return;
  }
  variables.emplace_back(symbol, std::move(value));
}

Interpreter::Interpreter(const Ast& ast, const Limits& limits, const Clock& clock)
    : ast_(ast), budget_(limits), clock_(clock) {}

Interpreter::~Interpreter() = default;

Text Interpreter::render(const Variables& variables) {
  const ScopePtr root = std::make_shared<Scope>();
  for (Symbol symbol = 0; symbol < ast_.symbols.size(); ++symbol) {
    const std::string& name = ast_.symbols[symbol];
    if (name == "loop") loop_symbol_ = symbol;
    const auto given = std::find_if(variables.begin(), variables.end(),
                                    [&](const auto& entry) { return entry.first == name; });
    if (given != variables.end()) {
      root->assign(symbol, given->second);
    } else if (const Function::Body global = find_global(name)) {
      root->assign(symbol, make<Function>(name, global));
    }
  }
  Text out;
  run(ast_.body, root, out);
  return out;
}

ScopePtr Interpreter::open_scope(const ScopePtr& parent) {
  budget_.allocate(sizeof(Scope) + 64);
  auto scope = std::make_shared<Scope>();
  scope->parent = parent;
  return scope;
}

Interpreter::Flow Interpreter::run(const Body& body, const ScopePtr& scope, Text& out) {
  const Budget::Nest nest(budget_);
  for (const StmtPtr& stmt : body) {
    const Flow flow = run_statement(*stmt, scope, out);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run_statement(const Stmt& stmt, const ScopePtr& scope, Text& out) {
  budget_.step();
  here_ = stmt.place;
  switch (stmt.kind) {
    case StmtKind::kData: {
      const std::string& text = static_cast<const Data&>(stmt).text;
      budget_.check_text(out.size() + text.size());
      out.append(text, /*untrusted=*/false);
      return Flow::kNext;
    }
    case StmtKind::kOutput:
      append_str(out, evaluate(*static_cast<const Output&>(stmt).expr, scope), budget_);
      return Flow::kNext;
    case StmtKind::kIf:
      return run_if(static_cast<const If&>(stmt), scope, out);
    case StmtKind::kFor:
      run_for(static_cast<const For&>(stmt), scope, out, nullptr, 0);
      return Flow::kNext;
    case StmtKind::kSet: {
      const auto& node = static_cast<const Set&>(stmt);
      const Value value = evaluate(*node.value, scope);
      here_ = stmt.place;
      assign(*node.target, value, *scope);
      return Flow::kNext;
    }
    case StmtKind::kSetBlock:
      run_set_block(static_cast<const Block&>(stmt), scope);
      return Flow::kNext;
    case StmtKind::kMacro: {
      const auto& node = static_cast<const Macro&>(stmt);
      scope->assign(node.symbol, make<MacroObject>(node, scope));
      return Flow::kNext;
    }
    case StmtKind::kCallBlock:
      run_call_block(static_cast<const CallBlock&>(stmt), scope, out);
      return Flow::kNext;
    case StmtKind::kFilterBlock:
      return run_filter_block(static_cast<const Block&>(stmt), scope, out);
    case StmtKind::kWith:
      return run_with(static_cast<const With&>(stmt), scope, out);
    case StmtKind::kScope:
      return run(static_cast<const Block&>(stmt).body, open_scope(scope), out);
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
    case StmtKind::kUnsupported:
      raise("{}", static_cast<const Data&>(stmt).text);
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run_if(const If& node, const ScopePtr& scope, Text& out) {
  for (const auto& [condition, body] : node.branches) {
    if (truth(evaluate(*condition, scope))) return run(body, scope, out);
  }
  return run(node.otherwise, scope, out);
}

void Interpreter::run_for(const For& node, const ScopePtr& scope, Text& out, const Value* iterable,
                          size_t depth) {
  const Value sequence = iterable ? *iterable : evaluate(*node.iterable, scope);
  here_ = node.place;
  Loop* loop = own<Loop>(*this, node, scope, iterate(sequence, budget_), depth);
  bool any = false;
  while (const Value* item = loop->advance()) {
    any = true;
    budget_.step();
    const ScopePtr inner = open_scope(scope);
    if (loop_symbol_) inner->assign(*loop_symbol_, Value::object(loop));
    here_ = node.place;
    assign(*node.target, *item, *inner);
    if (run(node.body, inner, out) == Flow::kBreak) break;
  }
  loop->finish();
  if (!any) run(node.otherwise, open_scope(scope), out);
}

void Interpreter::run_set_block(const Block& node, const ScopePtr& scope) {
  Text text;
  run(node.body, open_scope(scope), text);
  budget_.text(text.size());
  Value value = Value::string(std::move(text));
  if (node.filter) value = evaluate_filter(static_cast<const Apply&>(*node.filter), scope, &value);
  here_ = node.place;
  assign(*node.target, value, *scope);
}

Interpreter::Flow Interpreter::run_filter_block(const Block& node, const ScopePtr& scope,
                                                Text& out) {
  Text text;
  const Flow flow = run(node.body, open_scope(scope), text);
  budget_.text(text.size());
  const Value value = Value::string(std::move(text));
  append_str(out, evaluate_filter(static_cast<const Apply&>(*node.filter), scope, &value), budget_);
  return flow;
}

Interpreter::Flow Interpreter::run_with(const With& node, const ScopePtr& scope, Text& out) {
  const ScopePtr inner = open_scope(scope);
  for (const auto& [target, expr] : node.bindings) assign(*target, evaluate(*expr, scope), *inner);
  return run(node.body, inner, out);
}

void Interpreter::run_call_block(const CallBlock& node, const ScopePtr& scope, Text& out) {
  const Value caller = make<MacroObject>(*node.caller, scope);
  append_str(out, evaluate_call(static_cast<const Call&>(*node.call), scope, caller), budget_);
}

void Interpreter::assign(const Expr& target, const Value& value, Scope& scope) {
  if (target.kind == ExprKind::kName)
    return scope.assign(static_cast<const Name&>(target).symbol, value);
  if (target.kind == ExprKind::kNamespaceRef) {
    const auto& reference = static_cast<const NamespaceRef&>(target);
    const Value* owner = scope.find(reference.symbol);
    auto* target_namespace =
        owner && owner->is(Kind::kObject) ? dynamic_cast<Namespace*>(owner->as_object()) : nullptr;
    if (target_namespace == nullptr)
      raise("cannot set an attribute of '{}': it is no namespace", ast_.symbols[reference.symbol]);
    return target_namespace->set(reference.attribute, value, budget_);
  }
  const auto& targets = static_cast<const ListLiteral&>(target).items;
  const std::vector<Value> items = iterate(value, budget_);
  if (items.size() != targets.size())
    raise("cannot unpack {} values into {} names", items.size(), targets.size());
  for (size_t i = 0; i < items.size(); ++i) assign(*targets[i], items[i], scope);
}

}  // namespace donar::text::jinja
