// Making values and looking into dicts.
#include "text/jinja/value.h"

#include <algorithm>
#include <cmath>

#include "text/jinja/object.h"
#include "text/jinja/print.h"

namespace donar::text::jinja {
namespace {

// Equal keys have equal texts: 1, 1.0 and true are one key, "1" is another.
void append_hash_key(std::string& out, const Value& key) {
  switch (key.kind()) {
    case Kind::kNone:
      out += 'n';
      return;
    case Kind::kString:
      out += 's';
      out += key.view();
      return;
    case Kind::kFloat: {
      const double value = key.as_double();
      if (std::nearbyint(value) != value || std::abs(value) > 1e37) {
        out += 'f' + float_repr(value);
        return;
      }
      out += 'i' + int_repr(static_cast<Int>(value));
      return;
    }
    case Kind::kBool:
    case Kind::kInt:
      out += 'i' + int_repr(key.as_int());
      return;
    case Kind::kList:
      if (key.as_list().sequence == Sequence::kTuple) {
        out += 't';
        for (const Value& item : key.as_list().items) {
          std::string part;
          append_hash_key(part, item);
          if (out.size() + part.size() > 4096) raise("a tuple of that size cannot be a key");
          out += int_repr(static_cast<Int>(part.size())) + ':' + part;
        }
        return;
      }
      [[fallthrough]];
    default:
      raise("a value of type {} cannot be a key", key.type_name());
  }
}

std::string hash_key(const Value& key) {
  std::string out;
  append_hash_key(out, key);
  return out;
}

Value json_value(const json::value& value, bool untrusted, size_t depth) {
  if (depth > kMaxValueDepth)
    raise("the request's JSON nests deeper than {} levels", kMaxValueDepth);
  switch (value.kind()) {
    case json::kind::null:
      return Value::none().with_untrusted(untrusted);
    case json::kind::bool_:
      return Value::boolean(value.get_bool()).with_untrusted(untrusted);
    case json::kind::int64:
      return Value::integer(value.get_int64()).with_untrusted(untrusted);
    case json::kind::uint64:
      return Value::integer(Int{value.get_uint64()}).with_untrusted(untrusted);
    case json::kind::double_:
      return Value::number(value.get_double()).with_untrusted(untrusted);
    case json::kind::string:
      return Value::string(Text(std::string(value.get_string()), untrusted));
    case json::kind::array: {
      std::vector<Value> items;
      items.reserve(value.get_array().size());
      for (const json::value& item : value.get_array())
        items.push_back(json_value(item, untrusted, depth + 1));
      return Value::list(std::move(items)).with_untrusted(untrusted);
    }
    case json::kind::object: {
      Dict dict;
      for (const auto& member : value.get_object()) {
        dict.set(Value::string(Text(std::string(member.key()), untrusted)),
                 json_value(member.value(), untrusted, depth + 1));
      }
      return Value::dict(std::move(dict)).with_untrusted(untrusted);
    }
  }
  return Value();
}

size_t checked_depth(size_t deepest_child) {
  if (deepest_child + 1 > kMaxValueDepth)
    raise("a list or dict nests deeper than {} levels", kMaxValueDepth);
  return deepest_child + 1;
}

}  // namespace

Value Value::undefined(std::string reason) {
  Value value;
  value.data_ = std::make_shared<const Undefined>(Undefined{std::move(reason)});
  return value;
}

Value Value::none() {
  Value value;
  value.data_ = nullptr;
  return value;
}

Value Value::boolean(bool boolean) {
  Value value;
  value.data_ = boolean;
  return value;
}

Value Value::integer(Int integer) {
  Value value;
  value.data_ = integer;
  return value;
}

Value Value::number(double number) {
  Value value;
  value.data_ = number;
  return value;
}

Value Value::string(Text text, bool markup) {
  Value value;
  value.data_ = std::make_shared<const Text>(std::move(text));
  value.markup_ = markup;
  return value;
}

Value Value::list(std::vector<Value> items) {
  return list(List{std::move(items), Sequence::kList, {}});
}
Value Value::tuple(std::vector<Value> items) {
  return list(List{std::move(items), Sequence::kTuple, {}});
}
Value Value::generator(std::vector<Value> items) {
  return list(List{std::move(items), Sequence::kGenerator, {}});
}

Value Value::list(List list) {
  size_t deepest = 0;
  for (const Value& item : list.items) deepest = std::max(deepest, item.depth());
  list.depth = checked_depth(deepest);
  Value value;
  value.data_ = std::make_shared<const List>(std::move(list));
  return value;
}

Value Value::dict(Dict dict) {
  size_t deepest = 0;
  for (const auto& [key, item] : dict.entries)
    deepest = std::max({deepest, key.depth(), item.depth()});
  dict.depth = checked_depth(deepest);
  Value value;
  value.data_ = std::make_shared<const Dict>(std::move(dict));
  return value;
}

Value Value::object(Object* object) {
  Value value;
  value.data_ = object;
  return value;
}

Value Value::from_json(const json::value& value, bool untrusted) {
  return json_value(value, untrusted, 0);
}

std::string Value::undefined_reason() const {
  const auto& undefined = std::get<UndefinedPtr>(data_);
  return undefined ? undefined->reason : std::string("a value is undefined");
}

bool Value::identical(const Value& other) const {
  if (kind() != other.kind()) return false;
  switch (kind()) {
    case Kind::kUndefined:
      return true;
    case Kind::kString:
      return &text() == &other.text() ||
             text().view() == other.text().view();  // CPython shares equal constants
    case Kind::kFloat:
      return as_double() == other.as_double();
    default:
      return data_ == other.data_;
  }
}

Value Value::with_untrusted(bool untrusted) const {
  Value value = *this;
  value.untrusted_ = untrusted;
  return value;
}

size_t Value::depth() const {
  if (is(Kind::kList)) return as_list().depth;
  if (is(Kind::kDict)) return as_dict().depth;
  return 0;
}

std::string_view Value::type_name() const {
  switch (kind()) {
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return markup_ ? "Markup" : "str";
    case Kind::kDict:
      return "dict";
    case Kind::kObject:
      return as_object()->type_name();
    case Kind::kList:
      break;
  }
  constexpr std::string_view kNames[] = {"list",       "tuple", "dict_keys", "dict_values",
                                         "dict_items", "range", "generator"};
  return kNames[static_cast<size_t>(as_list().sequence)];
}

void Dict::set(Value key, Value value) {
  auto [place, is_new] = index_.emplace(hash_key(key), entries.size());
  if (is_new) {
    entries.emplace_back(std::move(key), std::move(value));
  } else {
    entries[place->second].second = std::move(value);
  }
}

const Value* Dict::find(std::string_view key) const {
  std::string hashed = "s";
  hashed += key;
  auto found = index_.find(hashed);
  return found == index_.end() ? nullptr : &entries[found->second].second;
}

const Value* Dict::find(const Value& key) const {
  if (key.is(Kind::kUndefined) || key.is(Kind::kObject))
    return nullptr;  // hashable in Python, never a key here
  auto found = index_.find(hash_key(key));
  return found == index_.end() ? nullptr : &entries[found->second].second;
}

}  // namespace donar::text::jinja
