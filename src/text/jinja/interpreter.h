// Runs a syntax tree. One per render; owns all objects with state, and throws TemplateError.
#pragma once

#include <ctime>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/budget.h"
#include "text/jinja/object.h"

namespace donar::text::jinja {

// Variables of a block. A loop's body, a macro and the like open one; an if does not. Macros keep
// theirs alive.
struct Scope {
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<Symbol, Value>> variables;

  const Value* find(Symbol symbol) const;  // here or in a parent
  void assign(Symbol symbol, Value value);
};
using ScopePtr = std::shared_ptr<Scope>;

using Variables = std::vector<std::pair<std::string, Value>>;
using Clock = std::function<std::tm()>;

class Interpreter {
 public:
  Interpreter(const Ast& ast, const Limits& limits, const Clock& clock);
  ~Interpreter();

  Text render(const Variables& variables);
  Place here() const { return here_; }  // where an error that has no place of its own happened

  Budget& budget() { return budget_; }
  std::tm now() const { return clock_(); }

  // object.name and object[index] by the sandbox's rules; undefined if there is nothing.
  Value attribute(const Value& object, std::string_view name);
  Value item(const Value& object, const Value& index);
  Value call(const Value& callee, Args& args);

  template <class T, class... Arguments>
  Value make(Arguments&&... arguments) {
    return Value::object(own<T>(std::forward<Arguments>(arguments)...));
  }

 private:
  friend class Loop;
  friend class MacroObject;
  enum class Flow : uint8_t { kNext, kBreak, kContinue };

  template <class T, class... Arguments>
  T* own(Arguments&&... arguments) {
    budget_.allocate(sizeof(T) + 64);
    auto object = std::make_unique<T>(std::forward<Arguments>(arguments)...);
    T* borrowed = object.get();
    objects_.push_back(std::move(object));
    return borrowed;
  }
  ScopePtr open_scope(const ScopePtr& parent);

  // Statements (interpreter.cpp).
  Flow run(const Body& body, const ScopePtr& scope, Text& out);
  Flow run_statement(const Stmt& stmt, const ScopePtr& scope, Text& out);
  Flow run_if(const If& node, const ScopePtr& scope, Text& out);
  void run_for(const For& node, const ScopePtr& scope, Text& out, const Value* iterable,
               size_t depth);
  void run_set_block(const Block& node, const ScopePtr& scope);
  Flow run_filter_block(const Block& node, const ScopePtr& scope, Text& out);
  Flow run_with(const With& node, const ScopePtr& scope, Text& out);
  void run_call_block(const CallBlock& node, const ScopePtr& scope, Text& out);
  void assign(const Expr& target, const Value& value, Scope& scope);

  // Expressions (evaluate.cpp).
  Value evaluate(const Expr& expr, const ScopePtr& scope);
  Value evaluate_name(const Name& node, const Scope& scope) const;
  Value evaluate_list(const ListLiteral& node, const ScopePtr& scope);
  Value evaluate_dict(const DictLiteral& node, const ScopePtr& scope);
  Value evaluate_unary(const Unary& node, const ScopePtr& scope);
  Value evaluate_binary(const Binary& node, const ScopePtr& scope);
  Value evaluate_concat(const Concat& node, const ScopePtr& scope);
  Value evaluate_compare(const Compare& node, const ScopePtr& scope);
  Value evaluate_conditional(const Conditional& node, const ScopePtr& scope);
  Value evaluate_slice(const Slice& node, const ScopePtr& scope);
  Value evaluate_call(const Call& node, const ScopePtr& scope, std::optional<Value> caller);
  Value evaluate_filter(const Apply& node, const ScopePtr& scope, const Value* block_text);
  Value evaluate_test(const Apply& node, const ScopePtr& scope);
  Args evaluate_args(const CallArgs& args, const ScopePtr& scope);

  const Ast& ast_;
  Budget budget_;
  const Clock& clock_;
  Place here_{1, 1};
  std::optional<Symbol> loop_symbol_;
  std::vector<std::unique_ptr<Object>> objects_;
};

}  // namespace donar::text::jinja
