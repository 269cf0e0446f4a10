// Expressions of the grammar, by recursive descent: one function per level of binding, Jinja's
// order.
#include <algorithm>
#include <cstdlib>

#include "text/jinja/parser_state.h"

namespace donar::text::jinja {
namespace {

// Value of digits in base 2, 8, 10 or 16; false beyond the range of Int.
bool parse_int(std::string_view text, Int& value) {
  int base = 10;
  if (text.size() > 2 && text[0] == '0' && !(text[1] >= '0' && text[1] <= '9')) {
    base = (text[1] | 32) == 'x' ? 16 : (text[1] | 32) == 'o' ? 8 : 2;
    text.remove_prefix(2);
  }
  value = 0;
  for (const char c : text) {
    const int digit = c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
    if (__builtin_mul_overflow(value, Int{base}, &value) ||
        __builtin_add_overflow(value, Int{digit}, &value))
      return false;
  }
  return true;
}

}  // namespace

void Parser::deepen(Expr& parent, const ExprPtr& child) const {
  if (!child) return;
  parent.depth = std::max(parent.depth, child->depth + 1);
  if (parent.depth > kMaxNesting)
    fail(parent.place, fmt::format("this expression has more than {} levels", kMaxNesting));
}

void Parser::deepen(Expr& parent, const CallArgs& args) const {
  for (const ExprPtr& arg : args.positional) deepen(parent, arg);
  for (const auto& [name, arg] : args.named) deepen(parent, arg);
  deepen(parent, args.star);
  deepen(parent, args.double_star);
}

ExprPtr Parser::binary(ExprKind kind, BinaryOp op, Place where, ExprPtr left, ExprPtr right) {
  auto node = std::make_unique<Binary>(kind, where, op);
  deepen(*node, left);
  deepen(*node, right);
  node->left = std::move(left);
  node->right = std::move(right);
  return node;
}

ExprPtr Parser::parse_expression(bool with_conditional) {
  const Nest nest(*this);
  if (!with_conditional) return parse_or();
  ExprPtr node = parse_or();
  while (at_name("if")) {
    auto conditional = std::make_unique<Conditional>(place());
    ++at_;
    const bool outer = std::exchange(conditional_, true);
    conditional->condition = parse_or();
    conditional->then = std::move(node);
    if (skip_name("else")) conditional->otherwise = parse_expression();
    conditional_ = outer;
    deepen(*conditional, conditional->condition);
    deepen(*conditional, conditional->then);
    deepen(*conditional, conditional->otherwise);
    node = std::move(conditional);
  }
  return node;
}

ExprPtr Parser::parse_or() {
  ExprPtr node = parse_and();
  while (at_name("or")) {
    const Place where = place();
    ++at_;
    node = binary(ExprKind::kOr, {}, where, std::move(node), parse_and());
  }
  return node;
}

ExprPtr Parser::parse_and() {
  ExprPtr node = parse_not();
  while (at_name("and")) {
    const Place where = place();
    ++at_;
    node = binary(ExprKind::kAnd, {}, where, std::move(node), parse_not());
  }
  return node;
}

ExprPtr Parser::parse_not() {
  if (!at_name("not")) return parse_compare();
  const Nest nest(*this);
  auto node = std::make_unique<Unary>(place(), UnaryOp::kNot);
  ++at_;
  node->operand = parse_not();
  deepen(*node, node->operand);
  return node;
}

ExprPtr Parser::parse_compare() {
  static constexpr std::pair<std::string_view, CompareOp> kOps[] = {
      {"==", CompareOp::kEqual},  {"!=", CompareOp::kNotEqual},  {"<", CompareOp::kLess},
      {">", CompareOp::kGreater}, {"<=", CompareOp::kLessEqual}, {">=", CompareOp::kGreaterEqual}};
  ExprPtr first = parse_sum();
  std::unique_ptr<Compare> node;
  for (;;) {
    const Place where = place();
    CompareOp op = CompareOp::kEqual;
    const auto found = std::find_if(std::begin(kOps), std::end(kOps),
                                    [&](const auto& entry) { return at_operator(entry.first); });
    if (found != std::end(kOps)) {
      op = found->second;
    } else if (at_name("in")) {
      op = CompareOp::kIn;
    } else if (at_name("not") && ahead().kind == TokenKind::kName && ahead().text == "in") {
      op = CompareOp::kNotIn;
      ++at_;
    } else {
      break;
    }
    ++at_;
    if (!node) {
      node = std::make_unique<Compare>(where);
      deepen(*node, first);
      node->first = std::move(first);
    }
    node->rest.emplace_back(op, parse_sum());
    deepen(*node, node->rest.back().second);
  }
  if (node) return node;
  return first;
}

ExprPtr Parser::parse_sum() {
  ExprPtr node = parse_concat();
  while (at_operator("+") || at_operator("-")) {
    const BinaryOp op = at_operator("+") ? BinaryOp::kAdd : BinaryOp::kSubtract;
    const Place where = place();
    ++at_;
    node = binary(ExprKind::kBinary, op, where, std::move(node), parse_concat());
  }
  return node;
}

ExprPtr Parser::parse_concat() {
  ExprPtr first = parse_product();
  if (!at_operator("~")) return first;
  auto node = std::make_unique<Concat>(place());
  deepen(*node, first);
  node->parts.push_back(std::move(first));
  while (skip_operator("~")) {
    node->parts.push_back(parse_product());
    deepen(*node, node->parts.back());
  }
  return node;
}

ExprPtr Parser::parse_product() {
  static constexpr std::pair<std::string_view, BinaryOp> kOps[] = {{"*", BinaryOp::kMultiply},
                                                                   {"/", BinaryOp::kDivide},
                                                                   {"//", BinaryOp::kFloorDivide},
                                                                   {"%", BinaryOp::kModulo}};
  ExprPtr node = parse_power();
  for (;;) {
    const auto found = std::find_if(std::begin(kOps), std::end(kOps),
                                    [&](const auto& entry) { return at_operator(entry.first); });
    if (found == std::end(kOps)) return node;
    const Place where = place();
    ++at_;
    node = binary(ExprKind::kBinary, found->second, where, std::move(node), parse_power());
  }
}

ExprPtr Parser::parse_power() {
  ExprPtr node = parse_unary();
  while (at_operator("**")) {
    const Place where = place();
    ++at_;
    node = binary(ExprKind::kBinary, BinaryOp::kPower, where, std::move(node), parse_unary());
  }
  return node;
}

ExprPtr Parser::parse_unary(bool with_filter) {
  const Nest nest(*this);
  ExprPtr node;
  if (at_operator("-") || at_operator("+")) {
    auto unary =
        std::make_unique<Unary>(place(), at_operator("-") ? UnaryOp::kMinus : UnaryOp::kPlus);
    ++at_;
    unary->operand = parse_unary(/*with_filter=*/false);
    deepen(*unary, unary->operand);
    node = std::move(unary);
  } else {
    node = parse_primary();
  }
  node = parse_postfix(std::move(node));
  return with_filter ? parse_filters(std::move(node)) : std::move(node);
}

ExprPtr Parser::parse_number() {
  const Place where = place();
  const Token& token = tokens_[at_++];
  if (token.kind == TokenKind::kFloat) {
    return std::make_unique<Constant>(where,
                                      Value::number(std::strtod(token.text.c_str(), nullptr)));
  }
  Int value = 0;
  if (!parse_int(token.text, value)) fail(where, "this integer is too large");
  return std::make_unique<Constant>(where, Value::integer(value));
}

ExprPtr Parser::parse_primary(bool with_namespace) {
  const Place where = place();
  switch (current().kind) {
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return parse_number();
    case TokenKind::kString: {
      std::string text;
      while (current().kind == TokenKind::kString) text += tokens_[at_++].text;
      return std::make_unique<Constant>(where, Value::string(text));
    }
    case TokenKind::kName: {
      const std::string name = tokens_[at_++].text;
      if (name == "true" || name == "True")
        return std::make_unique<Constant>(where, Value::boolean(true));
      if (name == "false" || name == "False")
        return std::make_unique<Constant>(where, Value::boolean(false));
      if (name == "none" || name == "None") return std::make_unique<Constant>(where, Value::none());
      if (with_namespace && skip_operator(".")) {
        auto node = std::make_unique<NamespaceRef>(where);
        node->symbol = symbol(name);
        node->attribute = expect_any_name();
        return node;
      }
      const Symbol id = symbol(name);
      if (!storing_) ast_.read[id] = true;
      for (MacroUse& use : macros_) {
        use.caller |= name == "caller";
        use.varargs |= name == "varargs";
        use.kwargs |= name == "kwargs";
      }
      return std::make_unique<Name>(where, id);
    }
    case TokenKind::kOperator:
      if (skip_operator("(")) {
        ExprPtr node = parse_tuple({.parenthesised = true});
        expect_operator(")");
        return node;
      }
      if (at_operator("[")) return parse_list();
      if (at_operator("{")) return parse_dict();
      break;
    default:
      break;
  }
  fail_unexpected("an expression");
}

bool Parser::at_tuple_end(const TupleOptions& options) const {
  return current().kind == TokenKind::kVariableEnd || current().kind == TokenKind::kBlockEnd ||
         at_operator(")") ||
         std::any_of(options.ends.begin(), options.ends.end(),
                     [&](std::string_view end) { return at_name(end); });
}

ExprPtr Parser::parse_tuple(const TupleOptions& options) {
  const Nest nest(*this);
  auto tuple = std::make_unique<ListLiteral>(ExprKind::kTuple, place());
  bool is_tuple = false;
  for (;;) {
    if (!tuple->items.empty()) expect_operator(",");
    if (at_tuple_end(options)) break;
    tuple->items.push_back(options.simple ? parse_primary(options.with_namespace)
                                          : parse_expression(options.with_conditional));
    deepen(*tuple, tuple->items.back());
    if (!at_operator(",")) break;
    is_tuple = true;
  }
  if (is_tuple) return tuple;
  if (!tuple->items.empty()) return std::move(tuple->items[0]);
  if (!options.parenthesised) fail_unexpected("an expression");
  return tuple;
}

ExprPtr Parser::parse_list() {
  auto node = std::make_unique<ListLiteral>(ExprKind::kList, place());
  expect_operator("[");
  while (!at_operator("]")) {
    if (!node->items.empty()) expect_operator(",");
    if (at_operator("]")) break;
    node->items.push_back(parse_expression());
    deepen(*node, node->items.back());
  }
  expect_operator("]");
  return node;
}

ExprPtr Parser::parse_dict() {
  auto node = std::make_unique<DictLiteral>(place());
  expect_operator("{");
  while (!at_operator("}")) {
    if (!node->items.empty()) expect_operator(",");
    if (at_operator("}")) break;
    ExprPtr key = parse_expression();
    expect_operator(":");
    ExprPtr value = parse_expression();
    deepen(*node, key);
    deepen(*node, value);
    node->items.emplace_back(std::move(key), std::move(value));
  }
  expect_operator("}");
  return node;
}

}  // namespace donar::text::jinja
