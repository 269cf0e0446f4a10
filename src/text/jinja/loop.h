// The variable `loop` of a for statement: counts, neighbours, and recursion for `recursive` loops.
#pragma once

#include <string_view>
#include <vector>

#include "text/jinja/interpreter.h"

namespace donar::text::jinja {

class Loop : public Object {
 public:
  Loop(Interpreter& run, const For& node, ScopePtr outer, std::vector<Value> items, size_t depth)
      : run_(run), node_(node), outer_(std::move(outer)), items_(std::move(items)), depth_(depth) {}

  // Moves to the next item that the loop's filter lets pass, whose filter runs no earlier than
  // that; null at the end.
  const Value* advance();
  void finish();  // the loop ended: lets its items go

  std::string_view type_name() const override { return "LoopContext"; }
  Value attribute(std::string_view name) override;
  bool callable() const override { return true; }
  Value call(Interpreter& interpreter, Args& args) override;  // loop(children)
  bool has_method(std::string_view name) const override {
    return name == "cycle" || name == "changed";
  }
  Value call_method(Interpreter& interpreter, std::string_view name, Args& args) override;

 private:
  const Value* passed(size_t index);  // item number `index` of those that pass, null beyond the end
  size_t length();

  Interpreter& run_;
  const For& node_;
  ScopePtr outer_;
  std::vector<Value> items_;
  std::vector<Value> passed_;  // with a filter only: what has passed so far
  size_t filtered_ = 0;        // how many items the filter has seen
  size_t position_ = 0;        // 1 in the first turn
  size_t depth_ = 0;
  std::vector<Value> changed_;  // arguments of the last loop.changed()
  bool has_changed_ = false;
};

}  // namespace donar::text::jinja
