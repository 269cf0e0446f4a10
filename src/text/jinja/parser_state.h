// The parser's state, shared by its two halves: statements (parser.cpp) and expressions
// (parser_expressions.cpp).
#pragma once

#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/lexer.h"

namespace donar::text::jinja {

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}
  Ast run();

 private:
  // Tokens.
  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  Place place() const { return {current().line, current().column}; }
  bool at_operator(std::string_view op) const {
    return current().kind == TokenKind::kOperator && current().text == op;
  }
  bool at_name(std::string_view name) const {
    return current().kind == TokenKind::kName && current().text == name;
  }
  bool skip_operator(std::string_view op);
  bool skip_name(std::string_view name);
  void expect_operator(std::string_view op);
  void expect_name(std::string_view name);
  std::string expect_any_name();
  [[noreturn]] void fail(Place where, std::string message) const;
  [[noreturn]] void fail_unexpected(std::string_view expected) const;

  Symbol symbol(const std::string& name);

  // Guards the C++ stack: held by every function that nests.
  class Nest {
   public:
    explicit Nest(Parser& parser);
    ~Nest() { --parser_.nesting_; }
    Nest(const Nest&) = delete;
    Nest& operator=(const Nest&) = delete;

   private:
    Parser& parser_;
  };
  // Depth of a finished node from that of its children; too deep is an error.
  void deepen(Expr& parent, const ExprPtr& child) const;
  void deepen(Expr& parent, const CallArgs& args) const;

  // Statements.
  Body parse_body(std::initializer_list<std::string_view> ends, Place opened,
                  std::string_view tag);  // stops at the end's name
  Body parse_block_body(std::string_view end, Place opened,
                        std::string_view tag);  // and takes the end tag
  StmtPtr parse_statement();
  StmtPtr parse_if(Place where);
  StmtPtr parse_for(Place where);
  StmtPtr parse_set(Place where);
  StmtPtr parse_with(Place where);
  StmtPtr parse_macro(Place where);
  StmtPtr parse_call_block(Place where);
  StmtPtr parse_filter_block(Place where);
  StmtPtr parse_unsupported(Place where, const std::string& tag);
  Signature parse_signature();
  // Parses a macro's body and sets the uses_ flags of its signature.
  Body parse_macro_body(Macro& macro, std::string_view end, std::string_view tag);
  ExprPtr parse_target(std::initializer_list<std::string_view> ends, bool with_namespace);
  void check_target(const Expr& target) const;
  void expect_block_end();

  // Expressions, loosest first.
  ExprPtr parse_expression(bool with_conditional = true);
  ExprPtr parse_or();
  ExprPtr parse_and();
  ExprPtr parse_not();
  ExprPtr parse_compare();
  ExprPtr parse_sum();
  ExprPtr parse_concat();
  ExprPtr parse_product();
  ExprPtr parse_power();
  ExprPtr parse_unary(bool with_filter = true);
  ExprPtr parse_primary(bool with_namespace = false);
  ExprPtr parse_number();
  ExprPtr parse_list();
  ExprPtr parse_dict();
  struct TupleOptions {
    bool simple = false;  // primaries only, for assignment targets
    bool with_conditional = true;
    bool parenthesised = false;  // () is the empty tuple
    bool with_namespace = false;
    std::initializer_list<std::string_view> ends = {};
  };
  ExprPtr parse_tuple(const TupleOptions& options);
  bool at_tuple_end(const TupleOptions& options) const;
  ExprPtr parse_postfix(ExprPtr node);
  ExprPtr parse_filters(ExprPtr node);
  ExprPtr parse_dot(ExprPtr object);
  ExprPtr parse_brackets(ExprPtr object);
  ExprPtr parse_call(ExprPtr callee);
  CallArgs parse_call_args();
  ExprPtr parse_filter(ExprPtr operand);  // at the filter's name
  ExprPtr parse_test(ExprPtr operand);
  ExprPtr binary(ExprKind kind, BinaryOp op, Place where, ExprPtr left, ExprPtr right);

  std::vector<Token> tokens_;
  size_t at_ = 0;
  size_t nesting_ = 0;
  size_t loops_ = 0;  // loops around this statement: break and continue are allowed
  bool conditional_ =
      false;  // inside an if: an unknown filter is an error only when it is reached, as in Jinja
  bool storing_ = false;  // inside an assignment's target
  std::map<std::string, Symbol> symbol_of_;
  struct MacroUse {
    bool caller = false, varargs = false, kwargs = false;
  };
  std::vector<MacroUse> macros_;  // macros around this place
  Ast ast_;
};

}  // namespace donar::text::jinja
