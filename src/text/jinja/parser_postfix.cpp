// What follows an expression: attributes, items, slices, calls, filters and tests.
#include "text/jinja/filters.h"
#include "text/jinja/parser_state.h"

namespace donar::text::jinja {

ExprPtr Parser::parse_postfix(ExprPtr node) {
  for (;;) {
    if (at_operator(".")) {
      node = parse_dot(std::move(node));
    } else if (at_operator("[")) {
      node = parse_brackets(std::move(node));
    } else if (at_operator("(")) {
      node = parse_call(std::move(node));
    } else {
      return node;
    }
  }
}

ExprPtr Parser::parse_filters(ExprPtr node) {
  for (;;) {
    if (skip_operator("|")) {
      node = parse_filter(std::move(node));
    } else if (at_name("is")) {
      node = parse_test(std::move(node));
    } else if (at_operator("(")) {
      node = parse_call(std::move(node));
    } else {
      return node;
    }
  }
}

ExprPtr Parser::parse_dot(ExprPtr object) {
  const Place where = place();
  expect_operator(".");
  if (current().kind == TokenKind::kInteger) {
    auto node = std::make_unique<Item>(where);
    deepen(*node, object);
    node->object = std::move(object);
    node->index = parse_number();
    return node;
  }
  auto node = std::make_unique<Attribute>(where);
  deepen(*node, object);
  node->object = std::move(object);
  if (current().kind != TokenKind::kName) fail_unexpected("a name or number");
  node->name = tokens_[at_++].text;
  return node;
}

ExprPtr Parser::parse_brackets(ExprPtr object) {
  const Place where = place();
  expect_operator("[");
  auto slice = std::make_unique<Slice>(where);
  ExprPtr start = at_operator(":") ? nullptr : parse_expression();
  if (at_operator(",")) {  // object[a, b]: a tuple as the index
    auto tuple = std::make_unique<ListLiteral>(ExprKind::kTuple, where);
    tuple->items.push_back(std::move(start));
    while (skip_operator(",")) tuple->items.push_back(parse_expression());
    for (const ExprPtr& item : tuple->items) deepen(*tuple, item);
    start = std::move(tuple);
  }
  if (!at_operator(":")) {
    expect_operator("]");
    auto node = std::make_unique<Item>(where);
    deepen(*node, object);
    deepen(*node, start);
    node->object = std::move(object);
    node->index = std::move(start);
    return node;
  }
  expect_operator(":");
  slice->object = std::move(object);
  slice->start = std::move(start);
  if (!at_operator("]") && !at_operator(":")) slice->stop = parse_expression();
  if (skip_operator(":") && !at_operator("]")) slice->step = parse_expression();
  expect_operator("]");
  for (const ExprPtr* part : {&slice->object, &slice->start, &slice->stop, &slice->step})
    deepen(*slice, *part);
  return slice;
}

ExprPtr Parser::parse_call(ExprPtr callee) {
  auto node = std::make_unique<Call>(place());
  deepen(*node, callee);
  node->callee = std::move(callee);
  node->args = parse_call_args();
  deepen(*node, node->args);
  return node;
}

CallArgs Parser::parse_call_args() {
  CallArgs args;
  expect_operator("(");
  bool first = true;
  while (!at_operator(")")) {
    if (!first) {
      expect_operator(",");
      if (at_operator(")")) break;
    }
    first = false;
    const Place where = place();
    if (skip_operator("*")) {
      if (args.star || args.double_star)
        fail(where, "only one *argument is possible, before any **argument");
      args.star = parse_expression();
    } else if (skip_operator("**")) {
      if (args.double_star) fail(where, "only one **argument is possible");
      args.double_star = parse_expression();
    } else if (current().kind == TokenKind::kName && ahead().kind == TokenKind::kOperator &&
               ahead().text == "=") {
      if (args.double_star) fail(where, "a named argument cannot follow a **argument");
      std::string name = expect_any_name();
      expect_operator("=");
      args.named.emplace_back(std::move(name), parse_expression());
    } else {
      if (args.star || args.double_star || !args.named.empty())
        fail(where, "a positional argument cannot follow named or * arguments");
      args.positional.push_back(parse_expression());
    }
  }
  expect_operator(")");
  return args;
}

ExprPtr Parser::parse_filter(ExprPtr operand) {
  auto node = std::make_unique<Apply>(ExprKind::kFilter, place());
  node->name = expect_any_name();
  while (skip_operator(".")) node->name.append(".").append(expect_any_name());
  if (!conditional_ && !has_filter(node->name))
    fail(node->place, fmt::format("unknown filter '{}'", node->name));
  deepen(*node, operand);
  node->operand = std::move(operand);
  if (at_operator("(")) node->args = parse_call_args();
  deepen(*node, node->args);
  return node;
}

ExprPtr Parser::parse_test(ExprPtr operand) {
  const Nest nest(*this);
  expect_name("is");
  const bool negated = skip_name("not");
  auto node = std::make_unique<Apply>(ExprKind::kTest, place());
  node->name = expect_any_name();
  while (skip_operator(".")) node->name.append(".").append(expect_any_name());
  if (!conditional_ && !has_test(node->name))
    fail(node->place, fmt::format("unknown test '{}'", node->name));
  deepen(*node, operand);
  node->operand = std::move(operand);
  const TokenKind next = current().kind;
  if (at_operator("(")) {
    node->args = parse_call_args();
  } else if (next == TokenKind::kString || next == TokenKind::kInteger ||
             next == TokenKind::kFloat || at_operator("[") || at_operator("{") ||
             (next == TokenKind::kName && !at_name("else") && !at_name("or") && !at_name("and"))) {
    if (at_name("is")) fail(place(), "tests cannot be chained with 'is'");
    node->args.positional.push_back(parse_postfix(parse_primary()));
  }
  deepen(*node, node->args);
  if (!negated) return node;
  auto inverse = std::make_unique<Unary>(node->place, UnaryOp::kNot);
  inverse->operand = std::move(node);
  deepen(*inverse, inverse->operand);
  return inverse;
}

}  // namespace donar::text::jinja
