// The syntax tree of a template. Names are numbers into Ast::symbols. Const after parsing, shared
// by all renders.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace donar::text::jinja {

using Symbol = uint32_t;

struct Place {
  uint32_t line = 0;  // from 1
  uint32_t column = 0;
};

enum class ExprKind : uint8_t {
  kConstant,
  kName,
  kList,
  kTuple,
  kDict,
  kUnary,
  kBinary,
  kConcat,
  kCompare,
  kAnd,
  kOr,
  kConditional,
  kAttribute,
  kItem,
  kSlice,
  kCall,
  kFilter,
  kTest,
  kNamespaceRef,
};

struct Expr {
  Expr(ExprKind kind, Place place) : kind(kind), place(place) {}
  virtual ~Expr() = default;
  ExprKind kind;
  Place place;
  size_t depth = 1;  // levels of this subtree, at most kMaxNesting
};
using ExprPtr = std::unique_ptr<Expr>;

struct CallArgs {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr star;         // *args
  ExprPtr double_star;  // **kwargs
};

struct Constant : Expr {
  Constant(Place place, Value value) : Expr(ExprKind::kConstant, place), value(std::move(value)) {}
  Value value;
};
struct Name : Expr {
  Name(Place place, Symbol symbol) : Expr(ExprKind::kName, place), symbol(symbol) {}
  Symbol symbol;
};
struct ListLiteral : Expr {  // kList, kTuple; a tuple is also an assignment target
  ListLiteral(ExprKind kind, Place place) : Expr(kind, place) {}
  std::vector<ExprPtr> items;
};
struct DictLiteral : Expr {
  explicit DictLiteral(Place place) : Expr(ExprKind::kDict, place) {}
  std::vector<std::pair<ExprPtr, ExprPtr>> items;
};

enum class UnaryOp : uint8_t { kNot, kMinus, kPlus };
struct Unary : Expr {
  Unary(Place place, UnaryOp op) : Expr(ExprKind::kUnary, place), op(op) {}
  UnaryOp op;
  ExprPtr operand;
};

enum class BinaryOp : uint8_t {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower
};
struct Binary : Expr {  // kBinary, kAnd, kOr
  Binary(ExprKind kind, Place place, BinaryOp op) : Expr(kind, place), op(op) {}
  BinaryOp op;
  ExprPtr left, right;
};
struct Concat : Expr {  // a ~ b ~ c
  explicit Concat(Place place) : Expr(ExprKind::kConcat, place) {}
  std::vector<ExprPtr> parts;
};

enum class CompareOp : uint8_t {
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn
};
struct Compare : Expr {  // a < b <= c
  explicit Compare(Place place) : Expr(ExprKind::kCompare, place) {}
  ExprPtr first;
  std::vector<std::pair<CompareOp, ExprPtr>> rest;
};
struct Conditional : Expr {
  explicit Conditional(Place place) : Expr(ExprKind::kConditional, place) {}
  ExprPtr condition, then, otherwise;  // otherwise may be null: undefined
};
struct Attribute : Expr {  // object.name
  explicit Attribute(Place place) : Expr(ExprKind::kAttribute, place) {}
  ExprPtr object;
  std::string name;
};
struct Item : Expr {  // object[index]
  explicit Item(Place place) : Expr(ExprKind::kItem, place) {}
  ExprPtr object, index;
};
struct Slice : Expr {  // object[start:stop:step]
  explicit Slice(Place place) : Expr(ExprKind::kSlice, place) {}
  ExprPtr object, start, stop, step;  // all but object may be null
};
struct Call : Expr {
  explicit Call(Place place) : Expr(ExprKind::kCall, place) {}
  ExprPtr callee;
  CallArgs args;
};
struct Apply : Expr {  // kFilter: operand|name(args), operand null inside filter blocks; kTest:
                       // operand is name(args)
  Apply(ExprKind kind, Place place) : Expr(kind, place) {}
  ExprPtr operand;
  std::string name;
  CallArgs args;
};
struct NamespaceRef : Expr {  // ns.attribute as an assignment target
  explicit NamespaceRef(Place place) : Expr(ExprKind::kNamespaceRef, place) {}
  Symbol symbol = 0;
  std::string attribute;
};

enum class StmtKind : uint8_t {
  kData,
  kOutput,
  kIf,
  kFor,
  kSet,
  kSetBlock,
  kMacro,
  kCallBlock,
  kFilterBlock,
  kWith,
  kScope,
  kBreak,
  kContinue,
  kUnsupported,
};

struct Stmt {
  Stmt(StmtKind kind, Place place) : kind(kind), place(place) {}
  virtual ~Stmt() = default;
  StmtKind kind;
  Place place;
};
using StmtPtr = std::unique_ptr<Stmt>;
using Body = std::vector<StmtPtr>;

struct Data : Stmt {  // kData; kUnsupported: the error of running it
  Data(StmtKind kind, Place place, std::string text) : Stmt(kind, place), text(std::move(text)) {}
  std::string text;
};
struct Output : Stmt {
  explicit Output(Place place) : Stmt(StmtKind::kOutput, place) {}
  ExprPtr expr;
};
struct If : Stmt {
  explicit If(Place place) : Stmt(StmtKind::kIf, place) {}
  std::vector<std::pair<ExprPtr, Body>> branches;
  Body otherwise;
};
struct For : Stmt {
  explicit For(Place place) : Stmt(StmtKind::kFor, place) {}
  ExprPtr target, iterable, filter;  // filter may be null
  bool recursive = false;
  Body body, otherwise;
};
struct Set : Stmt {
  explicit Set(Place place) : Stmt(StmtKind::kSet, place) {}
  ExprPtr target, value;
};
struct Block : Stmt {  // kSetBlock: target, filter (may be null), body; kFilterBlock: filter, body;
                       // kScope: body
  Block(StmtKind kind, Place place) : Stmt(kind, place) {}
  ExprPtr target, filter;
  Body body;
};
struct With : Stmt {
  explicit With(Place place) : Stmt(StmtKind::kWith, place) {}
  std::vector<std::pair<ExprPtr, ExprPtr>> bindings;
  Body body;
};

struct Signature {
  std::vector<std::pair<Symbol, std::string>> parameters;
  std::vector<ExprPtr> defaults;  // of the last parameters
  bool uses_caller = false, uses_varargs = false, uses_kwargs = false;
};
struct Macro : Stmt {  // kMacro
  explicit Macro(Place place) : Stmt(StmtKind::kMacro, place) {}
  Symbol symbol = 0;
  std::string name;
  Signature signature;
  Body body;
};
struct CallBlock : Stmt {  // {% call(parameters) callee(args) %}body{% endcall %}
  explicit CallBlock(Place place) : Stmt(StmtKind::kCallBlock, place) {}
  ExprPtr call;  // always a Call
  std::unique_ptr<Macro> caller;
};

struct Ast {
  Body body;
  std::vector<std::string> symbols;
  std::vector<bool> read;  // per symbol: some expression reads the variable
};

}  // namespace donar::text::jinja
