// Values with state or behaviour: namespaces, macros, loops, functions, bound methods. The
// interpreter owns them all and frees them together, so templates may build cycles out of them.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "text/jinja/value.h"

namespace donar::text::jinja {

class Interpreter;

class Object {
 public:
  virtual ~Object() = default;
  virtual std::string_view type_name() const = 0;
  virtual Value attribute(std::string_view name);  // undefined with a reason if there is none
  virtual bool callable() const { return false; }
  virtual Value call(Interpreter& interpreter, Args& args);
  virtual bool has_method(std::string_view) const { return false; }
  virtual Value call_method(Interpreter& interpreter, std::string_view name, Args& args);
  virtual void append_repr(Text& out, Budget& budget) const;
};

// {% set ns.name = value %} is the only assignment that leaves a loop.
class Namespace : public Object {
 public:
  std::string_view type_name() const override { return "Namespace"; }
  Value attribute(std::string_view name) override;
  void append_repr(Text& out, Budget& budget) const override;
  void set(std::string_view name, Value value, Budget& budget);

 private:
  std::vector<std::pair<std::string, Value>> attributes_;
};

class Cycler : public Object {
 public:
  explicit Cycler(std::vector<Value> items) : items_(std::move(items)) {}
  std::string_view type_name() const override { return "Cycler"; }
  Value attribute(std::string_view name) override;
  bool has_method(std::string_view name) const override {
    return name == "next" || name == "reset";
  }
  Value call_method(Interpreter& interpreter, std::string_view name, Args& args) override;

 private:
  std::vector<Value> items_;
  size_t position_ = 0;
};

// Empty text on the first call, the separator on every later one.
class Joiner : public Object {
 public:
  explicit Joiner(Value separator) : separator_(std::move(separator)) {}
  std::string_view type_name() const override { return "Joiner"; }
  bool callable() const override { return true; }
  Value call(Interpreter& interpreter, Args& args) override;

 private:
  Value separator_;
  bool used_ = false;
};

// A global function, or a method that a template took without calling it.
class Function : public Object {
 public:
  using Body = Value (*)(Interpreter&, Args&);
  Function(std::string_view name, Body body) : name_(name), body_(body) {}
  std::string_view type_name() const override { return "function"; }
  bool callable() const override { return true; }
  Value call(Interpreter& interpreter, Args& args) override { return body_(interpreter, args); }
  void append_repr(Text& out, Budget& budget) const override;

 private:
  std::string_view name_;
  Body body_;
};

class BoundMethod : public Object {
 public:
  BoundMethod(Value self, std::string name) : self_(std::move(self)), name_(std::move(name)) {}
  std::string_view type_name() const override { return "builtin_function_or_method"; }
  bool callable() const override { return true; }
  Value call(Interpreter& interpreter, Args& args) override;
  void append_repr(Text& out, Budget& budget) const override;

 private:
  Value self_;
  std::string name_;
};

}  // namespace donar::text::jinja
