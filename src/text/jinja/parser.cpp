// Statements of the grammar.
#include "text/jinja/parser.h"

#include <algorithm>

#include "text/jinja/parser_state.h"

namespace donar::text::jinja {

Ast parse_template(std::string_view source) { return Parser(tokenize(source)).run(); }

Parser::Nest::Nest(Parser& parser) : parser_(parser) {
  if (parser_.nesting_ >= kMaxNesting) {
    parser_.fail(parser_.place(),
                 fmt::format("the template's syntax nests deeper than {} levels", kMaxNesting));
  }
  ++parser_.nesting_;
}

void Parser::fail(Place where, std::string message) const {
  throw TemplateError{std::move(message), where.line, where.column};
}

void Parser::fail_unexpected(std::string_view expected) const {
  const std::string_view found =
      current().kind == TokenKind::kEnd    ? std::string_view("end of template")
      : current().kind == TokenKind::kData ? std::string_view("text")
                                           : std::string_view(current().text);
  fail(place(), fmt::format("expected {}, found '{}'", expected, found));
}

bool Parser::skip_operator(std::string_view op) {
  if (!at_operator(op)) return false;
  ++at_;
  return true;
}

bool Parser::skip_name(std::string_view name) {
  if (!at_name(name)) return false;
  ++at_;
  return true;
}

void Parser::expect_operator(std::string_view op) {
  if (!skip_operator(op)) fail_unexpected(fmt::format("'{}'", op));
}

void Parser::expect_name(std::string_view name) {
  if (!skip_name(name)) fail_unexpected(fmt::format("'{}'", name));
}

std::string Parser::expect_any_name() {
  if (current().kind != TokenKind::kName) fail_unexpected("a name");
  return tokens_[at_++].text;
}

void Parser::expect_block_end() {
  if (current().kind != TokenKind::kBlockEnd) fail_unexpected("'%}'");
  ++at_;
}

Symbol Parser::symbol(const std::string& name) {
  auto [place, is_new] = symbol_of_.emplace(name, static_cast<Symbol>(ast_.symbols.size()));
  if (is_new) {
    ast_.symbols.push_back(name);
    ast_.read.push_back(false);
  }
  return place->second;
}

Ast Parser::run() {
  ast_.body = parse_body({}, {1, 1}, "");
  return std::move(ast_);
}

Body Parser::parse_body(std::initializer_list<std::string_view> ends, Place opened,
                        std::string_view tag) {
  const Nest nest(*this);
  Body body;
  for (;;) {
    const Place where = place();
    switch (current().kind) {
      case TokenKind::kEnd:
        if (ends.size() == 0) return body;
        fail(opened,
             fmt::format("the tag '{}' is never closed: add {{% {} %}}", tag, *(ends.end() - 1)));
      case TokenKind::kData:
        body.push_back(std::make_unique<Data>(StmtKind::kData, where, tokens_[at_++].text));
        break;
      case TokenKind::kVariableBegin: {
        ++at_;
        auto output = std::make_unique<Output>(where);
        output->expr = parse_tuple({});
        if (current().kind != TokenKind::kVariableEnd) fail_unexpected("'}}'");
        ++at_;
        body.push_back(std::move(output));
        break;
      }
      default:  // kBlockBegin: nothing else follows a complete tag
        ++at_;
        if (std::any_of(ends.begin(), ends.end(),
                        [&](std::string_view end) { return at_name(end); }))
          return body;
        body.push_back(parse_statement());
        expect_block_end();
    }
  }
}

Body Parser::parse_block_body(std::string_view end, Place opened, std::string_view tag) {
  expect_block_end();
  Body body = parse_body({end}, opened, tag);
  expect_name(end);
  return body;
}

StmtPtr Parser::parse_statement() {
  const Place where = place();
  const std::string tag = expect_any_name();
  if (tag == "if") return parse_if(where);
  if (tag == "for") return parse_for(where);
  if (tag == "set") return parse_set(where);
  if (tag == "with") return parse_with(where);
  if (tag == "macro") return parse_macro(where);
  if (tag == "call") return parse_call_block(where);
  if (tag == "filter") return parse_filter_block(where);
  if (tag == "generation") {
    auto block = std::make_unique<Block>(StmtKind::kScope, where);
    block->body = parse_block_body("endgeneration", where, tag);
    return block;
  }
  if (tag == "print") {
    auto output = std::make_unique<Output>(where);
    output->expr = parse_expression();
    return output;
  }
  if (tag == "break" || tag == "continue") {
    if (loops_ == 0) fail(where, fmt::format("'{}' outside of a loop", tag));
    return std::make_unique<Stmt>(tag == "break" ? StmtKind::kBreak : StmtKind::kContinue, where);
  }
  if (tag == "include" || tag == "import" || tag == "from" || tag == "extends")
    return parse_unsupported(where, tag);
  fail(where, fmt::format("unknown tag '{}'", tag));
}

// Other templates cannot be reached: an error when it runs, as in Transformers, so that an unused
// one does no harm.
StmtPtr Parser::parse_unsupported(Place where, const std::string& tag) {
  while (current().kind != TokenKind::kBlockEnd) ++at_;
  return std::make_unique<Data>(
      StmtKind::kUnsupported, where,
      fmt::format("'{}' is not possible: a chat template is a single file", tag));
}

StmtPtr Parser::parse_if(Place where) {
  auto node = std::make_unique<If>(where);
  const bool outer = std::exchange(conditional_, true);
  for (;;) {
    ExprPtr condition = parse_tuple({.with_conditional = false});
    expect_block_end();
    Body body = parse_body({"elif", "else", "endif"}, where, "if");
    node->branches.emplace_back(std::move(condition), std::move(body));
    if (!skip_name("elif")) break;
  }
  if (skip_name("else")) {
    node->otherwise = parse_block_body("endif", where, "if");
  } else {
    expect_name("endif");
  }
  conditional_ = outer;
  return node;
}

StmtPtr Parser::parse_for(Place where) {
  auto node = std::make_unique<For>(where);
  node->target = parse_target({"in"}, /*with_namespace=*/false);
  expect_name("in");
  node->iterable = parse_tuple({.with_conditional = false, .ends = {"recursive"}});
  const bool outer = std::exchange(conditional_, false);
  if (skip_name("if")) node->filter = parse_expression();
  node->recursive = skip_name("recursive");
  expect_block_end();
  ++loops_;
  node->body = parse_body({"else", "endfor"}, where, "for");
  --loops_;
  if (skip_name("else")) {
    node->otherwise = parse_block_body("endfor", where, "for");
  } else {
    expect_name("endfor");
  }
  conditional_ = outer;
  return node;
}

StmtPtr Parser::parse_set(Place where) {
  ExprPtr target = parse_target({}, /*with_namespace=*/true);
  if (skip_operator("=")) {
    auto node = std::make_unique<Set>(where);
    node->target = std::move(target);
    node->value = parse_tuple({});
    return node;
  }
  auto node = std::make_unique<Block>(StmtKind::kSetBlock, where);
  node->target = std::move(target);
  while (skip_operator("|")) node->filter = parse_filter(std::move(node->filter));
  const bool outer = std::exchange(conditional_, false);
  node->body = parse_block_body("endset", where, "set");
  conditional_ = outer;
  return node;
}

StmtPtr Parser::parse_with(Place where) {
  auto node = std::make_unique<With>(where);
  while (current().kind != TokenKind::kBlockEnd) {
    if (!node->bindings.empty()) expect_operator(",");
    ExprPtr target = parse_target({}, /*with_namespace=*/false);
    expect_operator("=");
    node->bindings.emplace_back(std::move(target), parse_expression());
  }
  const bool outer = std::exchange(conditional_, false);
  node->body = parse_block_body("endwith", where, "with");
  conditional_ = outer;
  return node;
}

Signature Parser::parse_signature() {
  Signature signature;
  expect_operator("(");
  while (!at_operator(")")) {
    if (!signature.parameters.empty()) expect_operator(",");
    const Place where = place();
    std::string name = expect_any_name();
    const bool doubled =
        std::any_of(signature.parameters.begin(), signature.parameters.end(),
                    [&](const auto& parameter) { return parameter.second == name; });
    if (doubled) fail(where, fmt::format("two parameters are named '{}'", name));
    const Symbol id = symbol(name);
    signature.parameters.emplace_back(id, std::move(name));
    if (skip_operator("=")) {
      signature.defaults.push_back(parse_expression());
    } else if (!signature.defaults.empty()) {
      fail(where, "a parameter without default after one with a default");
    }
  }
  expect_operator(")");
  return signature;
}

Body Parser::parse_macro_body(Macro& macro, std::string_view end, std::string_view tag) {
  macros_.emplace_back();
  const size_t outer_loops = std::exchange(loops_, 0);
  const bool outer = std::exchange(conditional_, false);
  Body body = parse_block_body(end, macro.place, tag);
  conditional_ = outer;
  loops_ = outer_loops;
  const MacroUse use = macros_.back();
  macros_.pop_back();
  macro.signature.uses_caller = use.caller;
  macro.signature.uses_varargs = use.varargs;
  macro.signature.uses_kwargs = use.kwargs;
  return body;
}

StmtPtr Parser::parse_macro(Place where) {
  auto node = std::make_unique<Macro>(where);
  node->name = expect_any_name();
  node->symbol = symbol(node->name);
  node->signature = parse_signature();
  node->body = parse_macro_body(*node, "endmacro", "macro");
  return node;
}

StmtPtr Parser::parse_call_block(Place where) {
  auto node = std::make_unique<CallBlock>(where);
  node->caller = std::make_unique<Macro>(where);
  Macro& caller = *node->caller;
  caller.name = "caller";
  if (at_operator("(")) caller.signature = parse_signature();
  const Place call_place = place();
  node->call = parse_expression();
  if (node->call->kind != ExprKind::kCall) fail(call_place, "expected a call");
  caller.body = parse_macro_body(caller, "endcall", "call block");
  return node;
}

StmtPtr Parser::parse_filter_block(Place where) {
  auto node = std::make_unique<Block>(StmtKind::kFilterBlock, where);
  node->filter = parse_filter(nullptr);
  while (skip_operator("|")) node->filter = parse_filter(std::move(node->filter));
  const bool outer = std::exchange(conditional_, false);
  node->body = parse_block_body("endfilter", where, "filter");
  conditional_ = outer;
  return node;
}

ExprPtr Parser::parse_target(std::initializer_list<std::string_view> ends, bool with_namespace) {
  storing_ = true;
  ExprPtr target = parse_tuple({.simple = true, .with_namespace = with_namespace, .ends = ends});
  storing_ = false;
  check_target(*target);
  return target;
}

void Parser::check_target(const Expr& target) const {
  if (target.kind == ExprKind::kName || target.kind == ExprKind::kNamespaceRef) return;
  if (target.kind != ExprKind::kTuple) fail(target.place, "this cannot be assigned to");
  for (const ExprPtr& item : static_cast<const ListLiteral&>(target).items) check_target(*item);
}

}  // namespace donar::text::jinja
