// Values of the template engine, with Python's kinds. Strings, lists and dicts are immutable and
// shared, so no value can contain itself; objects with state (namespace, macro, loop) belong to the
// interpreter and are only pointed at.
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"
#include "text/jinja/budget.h"
#include "text/jinja/text.h"

namespace donar::text::jinja {

__extension__ typedef __int128 Int;  // Python's integers are unbounded: beyond this one arithmetic
                                     // is an error, never a wrong result

class Object;
class Value;
struct List;
struct Dict;

struct Undefined {
  std::string
      reason;  // "'x' is undefined": the error of any use but printing, testing and iterating
};

enum class Kind : uint8_t {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kDict,
  kObject
};

class Value {
 public:
  Value() = default;  // undefined without a reason
  static Value undefined(std::string reason);
  static Value none();
  static Value boolean(bool value);
  static Value integer(Int value);
  static Value number(double value);
  static Value string(Text text, bool markup = false);
  static Value string(std::string_view literal) { return string(Text(std::string(literal))); }
  static Value list(std::vector<Value> items);
  static Value tuple(std::vector<Value> items);
  static Value generator(std::vector<Value> items);  // what map, select and the like give: always
                                                     // true, used up by one pass
  static Value list(List list);
  static Value dict(Dict dict);
  static Value object(Object* object);  // borrowed from the interpreter
  // JSON of the caller; raises beyond kMaxValueDepth.
  static Value from_json(const json::value& value, bool untrusted);

  Kind kind() const { return static_cast<Kind>(data_.index()); }
  bool is(Kind kind) const { return this->kind() == kind; }
  bool is_integral() const {
    return is(Kind::kInt) || is(Kind::kBool);
  }  // bool is an int in Python
  bool is_number() const { return is_integral() || is(Kind::kFloat); }

  bool as_bool() const { return std::get<bool>(data_); }
  Int as_int() const { return is(Kind::kBool) ? Int{as_bool()} : std::get<Int>(data_); }
  double as_double() const {
    return is(Kind::kFloat) ? std::get<double>(data_) : static_cast<double>(as_int());
  }
  const Text& text() const { return *std::get<std::shared_ptr<const Text>>(data_); }
  std::string_view view() const { return text().view(); }
  const List& as_list() const { return *std::get<std::shared_ptr<const List>>(data_); }
  const Dict& as_dict() const { return *std::get<std::shared_ptr<const Dict>>(data_); }
  Object* as_object() const { return std::get<Object*>(data_); }
  std::string undefined_reason() const;
  // The same string, list or dict in memory (for `is sameas`).
  bool identical(const Value& other) const;

  bool markup() const {
    return markup_;
  }  // result of `safe` or `escape`: + escapes what is added to it
  bool untrusted() const {
    return untrusted_;
  }  // number, list or dict of the caller: its digits and brackets are untrusted too
  Value with_untrusted(bool untrusted) const;

  size_t depth() const;                // 0 for a scalar, else levels of lists and dicts
  std::string_view type_name() const;  // Python's: "str", "dict", ...

 private:
  using UndefinedPtr = std::shared_ptr<const Undefined>;
  std::variant<UndefinedPtr, std::nullptr_t, bool, Int, double, std::shared_ptr<const Text>,
               std::shared_ptr<const List>, std::shared_ptr<const Dict>, Object*>
      data_;
  bool markup_ = false;
  bool untrusted_ = false;
};

enum class Sequence : uint8_t { kList, kTuple, kKeys, kValues, kItems, kRange, kGenerator };

struct List {
  std::vector<Value> items;
  Sequence sequence = Sequence::kList;
  std::string range_text;      // "range(0, 3)"
  size_t depth = 1;            // set by Value::list
  mutable bool spent = false;  // a generator gives its items once
};

struct Dict {
  using Entry = std::pair<Value, Value>;

  // Adds or replaces; raises for keys that Python cannot hash (lists, dicts).
  void set(Value key, Value value);
  const Value* find(std::string_view key) const;
  const Value* find(const Value& key) const;

  std::vector<Entry> entries;  // in order of insertion
  size_t depth = 1;            // set by Value::dict

 private:
  std::unordered_map<std::string, size_t> index_;  // hash key -> entry
};

// The arguments of a call, evaluated.
struct Args {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

}  // namespace donar::text::jinja
